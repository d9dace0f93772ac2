/* Does what its first argument says: the misbehaviours that a workload can have, and some good manners. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "hello";
    if (!strcmp(what, "exit")) return atoi(argv[2]);
    if (!strcmp(what, "silent")) return 0;
    if (!strcmp(what, "hang-silently")) for (;;) pause();
    if (!strcmp(what, "segv-silently")) *(volatile int *)8 = 1;
    if (!strcmp(what, "echo")) {
        char buffer[256];
        ssize_t n;
        while ((n = read(0, buffer, sizeof buffer)) > 0) write(1, buffer, n);
        return 0;
    }
    if (!strcmp(what, "args")) {
        for (int i = 2; i < argc; i++) puts(argv[i]);
        return 0;
    }
    if (!strcmp(what, "env")) {
        extern char **environ;
        for (char **e = environ; *e; e++) puts(*e);
        return 0;
    }
    if (!strcmp(what, "stderr")) {
        fputs("to stderr\n", stderr);
        puts("to stdout");
        return 0;
    }
    if (!strcmp(what, "cat")) {
        FILE *file = fopen(argv[2], "r");
        if (!file) return 1;
        for (int c; (c = getc(file)) != EOF;) putchar(c);
        return 0;
    }
    if (!strcmp(what, "disks") || !strcmp(what, "cards")) {
        int disks = what[0] == 'd';
        FILE *file = fopen(disks ? "/proc/partitions" : "/proc/net/dev", "r");
        char line[256], name[64];
        long size;
        if (!file) return 1;
        while (fgets(line, sizeof line, file))
            if (disks && sscanf(line, "%*d %*d %ld %63s", &size, name) == 2) printf("%s %ld KiB\n", name, size);
            else if (!disks && sscanf(line, " %63[^: ]:", name) == 1 && !strncmp(name, "eth", 3)) puts(name);
        return 0;
    }
    puts("ready");
    fflush(stdout);
    if (!strcmp(what, "segv")) *(volatile int *)8 = 1;
    if (!strcmp(what, "abort")) abort();
    if (!strcmp(what, "hang")) for (;;) pause();
    if (!strcmp(what, "hang-closed")) {
        close(1);
        for (;;) pause();
    }
    if (!strcmp(what, "complain")) {
        fputs("it went wrong\n", stderr);
        return 3;
    }
    if (!strcmp(what, "flood")) {
        static char page[4096];
        memset(page, 'x', sizeof page);
        for (int i = 0; i < 25600; i++)
            if (write(1, page, sizeof page) < 0) return 1;
    }
    if (!strcmp(what, "protocol")) {
        /* A repetition of a known length, its time told inside as the third argument says. */
        for (int i = 0; i < 3; i++) {
            puts("begin");
            fflush(stdout);
            usleep(3000);
            puts("end");
            printf("sample time_per_op ns 3000000\nsample bandwidth bytes/s 5e9\n");
            fflush(stdout);
        }
    }
    if (!strcmp(what, "malformed")) {
        puts("begin\nend\nsample time_per_op ns NaN");
    }
    if (!strcmp(what, "no-end")) {
        puts("begin");
    }
    return 0;
}
