/* Ends in the way that argv[1] names. */
#include "check.h"

static const int constant = 5;
static int recurse(int n) {
    volatile char frame[1000];
    frame[0] = (char)n;
    return recurse(n + 1) + frame[0];
}

static void handler(int n) { (void)n; }

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    volatile int zero = 0;
    printf("%s\n", how);
    fflush(stdout);
    if (!strcmp(how, "null"))
        *(volatile int *)0x1234 = 1;
    if (!strcmp(how, "constant"))
        *(volatile int *)&constant = 1;
    if (!strcmp(how, "call-null"))
        ((void (*)(void))0)();
    if (!strcmp(how, "not-canonical"))
        ((void (*)(void))0x8000000000000000)();
    if (!strcmp(how, "stack"))
        return recurse(0);
    if (!strcmp(how, "stack-handler-without-stack")) {
        signal(SIGSEGV, handler);
        return recurse(0);
    }
    if (!strcmp(how, "execute-data")) {
        static char code[] = {(char)0xc3};
        ((void (*)(void))code)();
    }
    if (!strcmp(how, "divide"))
        return 100 / zero;
    if (!strcmp(how, "illegal"))
        __asm__ volatile("ud2");
    if (!strcmp(how, "breakpoint"))
        __asm__ volatile("int3");
    if (!strcmp(how, "abort"))
        abort();
    if (!strcmp(how, "kill"))
        raise(SIGKILL);
    if (!strcmp(how, "term"))
        raise(SIGTERM);
    if (!strcmp(how, "real-time"))
        raise(SIGRTMIN + 3);
    if (!strcmp(how, "blocked-fault")) {
        sigset_t set;
        sigfillset(&set);
        signal(SIGSEGV, handler);
        sigprocmask(SIG_BLOCK, &set, NULL);
        *(volatile int *)0x10 = 1;
    }
    if (!strcmp(how, "pipe"))
        for (;;)
            if (write(1, how, 4) < 0)
                return 9;
    if (!strcmp(how, "pipe-ignored")) {
        signal(SIGPIPE, SIG_IGN);
        for (;;)
            if (write(1, how, 4) < 0)
                return errno == EPIPE ? 7 : 8;
    }
    if (!strcmp(how, "exit"))
        exit(300);
    if (!strcmp(how, "_exit"))
        _exit(5);
    if (!strcmp(how, "thread-exit"))
        syscall(SYS_exit, 6);
    if (!strcmp(how, "hang"))
        for (;;)
            zero++;
    if (!strcmp(how, "hang-in-call"))
        for (;;)
            getppid();
    if (!strcmp(how, "hang-uninterruptible"))
        __asm__ volatile("1: cli\n jmp 1b");
    if (!strcmp(how, "pause"))
        pause();
    if (!strcmp(how, "sleep"))
        sleep(100000000);
    if (!strcmp(how, "read"))
        return (int)read(0, argv, 8);
    if (!strcmp(how, "unserved")) {
        long a = fork(), e = errno, b = syscall(SYS_socket, 1, 1, 0), f = errno, c = syscall(9999), g = errno;
        printf("%ld %ld, %ld %ld, %ld %ld\n", a, e, b, f, c, g);
        return syscall(SYS_socket, 1, 1, 0) != -1;
    }
    if (!strcmp(how, "flood")) {
        static char text[1 << 16];
        memset(text, 'x', sizeof text);
        for (int i = 0; i < 1600; i++)
            for (unsigned done = 0; done < sizeof text;) {
                ssize_t n = write(1, text + done, sizeof text - done);
                if (n <= 0)
                    return 1;
                done += n;
            }
        return 0;
    }
    return 99;
}
