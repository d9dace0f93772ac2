/* Standard input: argv[1] says how it is read. */
#include "check.h"

static void wait_and_read(void) {
    char buffer[100];
    struct pollfd fd = {0, POLLIN, 0};
    SHOW(poll(&fd, 1, 0));
    printf("revents %d\n", fd.revents);
    SHOW(poll(&fd, 1, 30));
    struct timespec timeout = {0, 1000000};
    SHOW(ppoll(&fd, 1, &timeout, NULL));
    int flags = fcntl(0, F_GETFL);
    fcntl(0, F_SETFL, flags | O_NONBLOCK);
    SHOW(read(0, buffer, 10));
    fcntl(0, F_SETFL, flags);
    printf("go\n");
    fflush(stdout);
    SHOW(poll(&fd, 1, -1));
    printf("revents %d\n", fd.revents & POLLIN);
    ssize_t n = read(0, buffer, sizeof buffer);
    printf("read %.*s\n", (int)n, buffer);
    SHOW(poll(&fd, 1, -1));
    SHOW(read(0, buffer, sizeof buffer));
}

static void read_all(void) {
    static char buffer[70001];
    unsigned long sum = 0, total = 0;
    for (ssize_t n; (n = read(0, buffer, sizeof buffer)) > 0; total += n)
        for (ssize_t i = 0; i < n; i++)
            sum = sum * 31 + (unsigned char)buffer[i];
    printf("%lu bytes, sum %lx\n", total, sum);
    SHOW(read(0, buffer, 10));
}

static void facts(void) {
    struct stat s;
    SHOW(fstat(0, &s));
    printf("stdin type %o\n", s.st_mode & S_IFMT);
    SHOW(fstat(1, &s));
    printf("stdout type %o\n", s.st_mode & S_IFMT);
    SHOW(isatty(0));
    SHOW(isatty(1));
    SHOW(lseek(0, 0, SEEK_CUR));
    SHOW(pread(0, &s, 10, 0));
    SHOW(write(0, "x", 1));
    SHOW(read(1, &s, 1));
    SHOW(write(1, "", 0));
    SHOW(ioctl(0, TIOCGWINSZ, &s));
    SHOW(write(7, "x", 1));
    struct pollfd fds[3] = {{1, POLLOUT, 0}, {77, POLLIN, 0}, {2, POLLOUT, 0}};
    SHOW(poll(fds, 3, -1));
    printf("%d %d %d\n", fds[0].revents, fds[1].revents, fds[2].revents);
    /* Descriptors can be closed, and others take their place. */
    SHOW(dup2(1, 5));
    close(1);
    SHOW(write(1, "x", 1));
    SHOW(open("/dev/null", O_WRONLY));
    dup2(5, 1);
    close(5);
    SHOW(close(0));
    SHOW(read(0, &s, 1));
    SHOW(dup(1));
    fprintf(stderr, "to stderr\n");
}

int main(int argc, char **argv) {
    (void)argc;
    setvbuf(stdout, NULL, _IOFBF, 1 << 14);
    if (!strcmp(argv[1], "poll"))
        wait_and_read();
    else if (!strcmp(argv[1], "facts"))
        facts();
    else
        read_all();
    return 3;
}
