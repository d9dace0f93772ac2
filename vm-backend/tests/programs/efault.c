/* Addresses that are not the program's: an error, never a fault, and the call can be made again. */
#include "check.h"

#define RAW(number, ...)                                                           \
    do {                                                                           \
        errno = 0;                                                                 \
        long shown = syscall(number, __VA_ARGS__);                                 \
        printf("%s(%s) = %ld errno %d\n", #number, #__VA_ARGS__, shown, errno);    \
    } while (0)

static void with(long bad) {
    char text[] = "/tmp/efault";
    int fd = open(text, O_RDWR | O_CREAT, 0600), zero = open("/dev/zero", O_RDONLY);
    RAW(SYS_write, fd, bad, 10);
    RAW(SYS_write, 1, bad, 10);
    RAW(SYS_read, zero, bad, 10);
    RAW(SYS_writev, fd, bad, 2);
    struct iovec part = {(void *)bad, 8};
    RAW(SYS_writev, 1, &part, 1);
    RAW(SYS_readv, zero, &part, 1);
    RAW(SYS_open, bad, 0);
    RAW(SYS_openat, AT_FDCWD, bad, 0);
    RAW(SYS_stat, bad, text);
    RAW(SYS_stat, text, bad);
    RAW(SYS_fstat, fd, bad);
    RAW(SYS_newfstatat, AT_FDCWD, text, bad, 0);
    RAW(SYS_readlink, bad, text, 5);
    RAW(SYS_readlink, "/proc/self/exe", bad, 5);
    RAW(SYS_uname, bad);
    RAW(SYS_sysinfo, bad);
    RAW(SYS_getcwd, bad, 100);
    RAW(SYS_clock_gettime, CLOCK_MONOTONIC, bad);
    RAW(SYS_clock_getres, CLOCK_MONOTONIC, bad);
    RAW(SYS_gettimeofday, bad, 0);
    RAW(SYS_time, bad);
    RAW(SYS_nanosleep, bad, 0);
    RAW(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, bad, 0);
    RAW(SYS_getrandom, bad, 10, 0);
    RAW(SYS_rt_sigaction, SIGUSR1, bad, 0, 8);
    RAW(SYS_rt_sigaction, SIGUSR1, 0, bad, 8);
    RAW(SYS_rt_sigprocmask, SIG_BLOCK, bad, 0, 8);
    RAW(SYS_rt_sigprocmask, SIG_BLOCK, 0, bad, 8);
    RAW(SYS_sigaltstack, bad, 0);
    RAW(SYS_sigaltstack, 0, bad);
    RAW(SYS_prlimit64, 0, RLIMIT_STACK, 0, bad);
    RAW(SYS_sched_getaffinity, 0, 128, bad);
    RAW(SYS_poll, bad, 1, 0);
    RAW(SYS_arch_prctl, 0x1003, bad);
    RAW(SYS_futex, bad, 0, 1, 0);
    RAW(SYS_mkdir, bad, 0700);
    RAW(SYS_unlink, bad);
    RAW(SYS_rename, bad, text);
    RAW(SYS_rename, text, bad);
    RAW(SYS_statx, AT_FDCWD, text, 0, 0x7ff, bad);
    RAW(SYS_getrusage, 0, bad);
    RAW(SYS_pread64, zero, bad, 10, 0);
    RAW(SYS_pwrite64, fd, bad, 10, 0);
    close(fd), close(zero);
    unlink(text);
}

int main(void) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    printf("null page\n");
    with(8);
    printf("not canonical\n");
    with(1l << 62);
    printf("far\n");
    with(0x7f0000000000 >> 4);
    printf("kernel\n");
    with(-4096);
    /* Across the end of what is mapped. */
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    struct timespec now;
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) == 0);
    printf("done\n");
    return 0;
}
