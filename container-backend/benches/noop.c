/* The program that is started: says so, and ends; with an argument, it stays. */
#include <unistd.h>

int main(int argc, char **argv) {
    (void)argv;
    if (write(1, "ready\n", 6) != 6) return 1;
    while (argc > 1) pause();
    return 0;
}
