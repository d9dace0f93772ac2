/* Identity, limits, clocks, sleeping, futex. */
#include "check.h"
#include <linux/futex.h>

static long ns_between(struct timespec a, struct timespec b) {
    return (b.tv_sec - a.tv_sec) * 1000000000l + b.tv_nsec - a.tv_nsec;
}

static void identity(void) {
    CHECK(getpid() > 0 && getppid() >= 0);
    CHECK(syscall(SYS_gettid) == getpid());
    CHECK(getuid() == geteuid() && getgid() == getegid());
    struct utsname u;
    SHOW(uname(&u));
    printf("%s %s\n", u.sysname, u.machine);
    CHECK(u.release[0] >= '3' && strlen(u.nodename) > 0);
    struct sysinfo info;
    SHOW(sysinfo(&info));
    CHECK(info.totalram > 1000000 && info.freeram <= info.totalram && info.mem_unit == 1 && info.procs >= 1);
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1 && sysconf(_SC_PAGESIZE) == 4096);
    cpu_set_t set;
    SHOW(sched_getaffinity(0, sizeof set, &set));
    CHECK(CPU_COUNT(&set) >= 1);
    SHOW(syscall(SYS_sched_getaffinity, 0, 1, &set));
    SHOW(sched_yield());
    unsigned cpu = 99;
    CHECK(syscall(SYS_getcpu, &cpu, NULL, NULL) == 0 && cpu < 99);
    struct rlimit64 limit;
    SHOW(prlimit64(0, RLIMIT_STACK, NULL, &limit));
    CHECK(limit.rlim_cur >= 1 << 20);
    SHOW(prlimit64(0, 99, NULL, &limit));
    SHOW(prlimit64(99999999, RLIMIT_STACK, NULL, &limit));
    SHOW(getrlimit(RLIMIT_NOFILE, (struct rlimit *)&limit));
    CHECK(limit.rlim_cur >= 64);
    struct rusage usage;
    SHOW(getrusage(RUSAGE_SELF, &usage));
    SHOW(syscall(SYS_set_robust_list, NULL, 24));
    CHECK(syscall(SYS_set_tid_address, &cpu) == getpid());
    SHOW(prctl(PR_SET_NAME, "name"));
    unsigned long fs = 0;
    CHECK(syscall(SYS_arch_prctl, 0x1003, &fs) == 0 && fs != 0);
    SHOW(syscall(SYS_arch_prctl, 0x1002, 1ul << 63));
    SHOW(syscall(SYS_arch_prctl, 0x9999, 0));
    unsigned char random[300] = {0};
    SHOW(syscall(SYS_getrandom, random, sizeof random, 0));
    int set_bytes = 0;
    for (int i = 0; i < 300; i++)
        set_bytes += random[i] != 0;
    CHECK(set_bytes > 250);
    SHOW(syscall(SYS_getrandom, random, 10, 0x1000));
    SHOW(syscall(SYS_getrandom, random, 0, 0));
    SHOW(kill(getpid(), 0));
    SHOW(kill(getpid(), 65));
    SHOW(kill(99999999, SIGTERM));
    SHOW(syscall(SYS_tgkill, getpid(), getpid(), 0));
    SHOW(syscall(SYS_tgkill, getpid(), 99999999, 0));
    SHOW(umask(022) >= 0);
    CHECK(umask(077) == 022);
    SHOW(syscall(SYS_wait4, -1, NULL, 0, NULL));
}

static void clocks(void) {
    struct timespec a, b, start;
    static const int ids[] = {CLOCK_REALTIME,         CLOCK_MONOTONIC,        CLOCK_PROCESS_CPUTIME_ID,
                              CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW,    CLOCK_REALTIME_COARSE,
                              CLOCK_MONOTONIC_COARSE,  CLOCK_BOOTTIME,         CLOCK_TAI};
    for (unsigned i = 0; i < sizeof ids / sizeof *ids; i++) {
        int backwards = 0;
        CHECK(clock_gettime(ids[i], &a) == 0 && a.tv_nsec >= 0 && a.tv_nsec < 1000000000);
        for (int k = 0; k < 1000; k++) {
            clock_gettime(ids[i], &b);
            backwards += ns_between(a, b) < 0;
            a = b;
        }
        printf("clock %d went backwards %d times\n", ids[i], backwards);
        CHECK(clock_getres(ids[i], &b) == 0 && b.tv_sec == 0 && b.tv_nsec > 0);
    }
    SHOW(clock_gettime(77, &a));
    SHOW(syscall(SYS_clock_gettime, 10, &a));
    SHOW(clock_getres(77, &a));
    SHOW(clock_getres(CLOCK_MONOTONIC, NULL));
    struct timeval tv;
    SHOW(gettimeofday(&tv, NULL));
    SHOW(gettimeofday(NULL, NULL));
    clock_gettime(CLOCK_REALTIME, &a);
    time_t t = -1;
    CHECK(time(&t) == t && labs(t - a.tv_sec) <= 1 && labs(tv.tv_sec - a.tv_sec) <= 1);
    CHECK(a.tv_sec > 1600000000);

    clock_gettime(CLOCK_MONOTONIC, &start);
    struct timespec pause = {0, 20000000}, left;
    SHOW(nanosleep(&pause, &left));
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL));
    clock_gettime(CLOCK_MONOTONIC, &a);
    CHECK(ns_between(start, a) >= 40000000);
    a.tv_nsec += 10000000;
    if (a.tv_nsec >= 1000000000)
        a.tv_sec++, a.tv_nsec -= 1000000000;
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &a, NULL));
    clock_gettime(CLOCK_MONOTONIC, &b);
    CHECK(ns_between(a, b) >= 0);
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &start, NULL));
    struct timespec bad = {0, 1000000000}, negative = {-1, 0};
    SHOW(nanosleep(&bad, NULL));
    SHOW(nanosleep(&negative, NULL));
    SHOW(clock_nanosleep(77, 0, &pause, NULL));
    SHOW(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &pause, NULL));
    clock_gettime(CLOCK_MONOTONIC, &start);
    SHOW(poll(NULL, 0, 10));
    clock_gettime(CLOCK_MONOTONIC, &a);
    CHECK(ns_between(start, a) >= 10000000);
}

static void futexes(void) {
    int word = 1;
    SHOW(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL));
    SHOW(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 2, NULL));
    struct timespec a, b, timeout = {0, 10000000};
    clock_gettime(CLOCK_MONOTONIC, &a);
    SHOW(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, &timeout));
    clock_gettime(CLOCK_MONOTONIC, &b);
    CHECK(ns_between(a, b) >= 10000000);
    SHOW(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 1, &a, NULL, ~0));
    SHOW(syscall(SYS_futex, NULL, FUTEX_WAIT_PRIVATE, 1, NULL));
}

int main(void) {
    identity();
    clocks();
    futexes();
    return 0;
}
