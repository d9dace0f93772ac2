/* Registers and vector registers over system calls, faults and handlers. */
#include "check.h"
#include <ucontext.h>

static void clobber(int number) {
    (void)number;
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0\n pcmpeqd %%xmm7, %%xmm7\n pcmpeqd %%xmm15, %%xmm15" ::
                         : "xmm0", "xmm7", "xmm15");
    unsigned csr = 0x7f80;
    __asm__ volatile("ldmxcsr %0\n fninit\n fldpi" ::"m"(csr));
}

__attribute__((target("avx2"))) static void clobber_wide(int number) {
    clobber(number);
    __asm__ volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0\n vpcmpeqd %%ymm7, %%ymm7, %%ymm7\n"
                     "vpcmpeqd %%ymm15, %%ymm15, %%ymm15\n vzeroupper" ::
                         : "xmm0", "xmm7", "xmm15");
}

static unsigned char before[16][32], after[16][32];
static unsigned long general[2][5];

/* Does work with all vector registers filled; `work`: 0 a call, 1 a signal, 2 a fault. */
#define ROUND(load, store, work_code)                                                                       \
    __asm__ volatile(load(0) load(1) load(2) load(3) load(4) load(5) load(6) load(7) load(8) load(9)        \
                         load(10) load(11) load(12) load(13) load(14) load(15)                              \
                     "mov $0x1111, %%r8\n mov $0x2222, %%r9\n mov $0x3333, %%r10\n mov $0x4444, %%r12\n"    \
                     "mov $0x5555, %%r13\n" work_code                                                       \
                     "mov %%r8, (%[g])\n mov %%r9, 8(%[g])\n mov %%r10, 16(%[g])\n mov %%r12, 24(%[g])\n"   \
                     "mov %%r13, 32(%[g])\n"                                                                \
                     store(0) store(1) store(2) store(3) store(4) store(5) store(6) store(7) store(8)       \
                         store(9) store(10) store(11) store(12) store(13) store(14) store(15)               \
                     : [ax] "+a"(ax)                                                                        \
                     : [from] "r"(before), [to] "r"(after), [g] "r"(general[0]), "D"(di), "S"(si), "d"(dx)   \
                     : "r8", "r9", "r10", "r11", "r12", "r13", "rcx", "memory", "xmm0", "xmm1", "xmm2",      \
                       "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",   \
                       "xmm13", "xmm14", "xmm15")
#define LOAD_X(n) "movdqu 32*" #n "(%[from]), %%xmm" #n "\n"
#define STORE_X(n) "movdqu %%xmm" #n ", 32*" #n "(%[to])\n"
#define LOAD_Y(n) "vmovdqu 32*" #n "(%[from]), %%ymm" #n "\n"
#define STORE_Y(n) "vmovdqu %%ymm" #n ", 32*" #n "(%[to])\n"

static int same(int width) {
    int bad = 0;
    for (int i = 0; i < 16; i++)
        bad += memcmp(before[i], after[i], width) != 0;
    static const unsigned long expected[5] = {0x1111, 0x2222, 0x3333, 0x4444, 0x5555};
    bad += memcmp(general[0], expected, sizeof expected) != 0;
    memset(after, 0, sizeof after);
    memset(general, 0, sizeof general);
    return bad;
}

static void fill(int seed) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 32; j++)
            before[i][j] = (unsigned char)(seed + 37 * i + 11 * j);
}

static volatile int faults;
static void skip(int number, siginfo_t *info, void *context) {
    (void)info;
    faults++;
    ((void (*)(int))(__builtin_cpu_supports("avx2") ? clobber_wide : clobber))(number);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

int main(void) {
    int wide = __builtin_cpu_supports("avx2"), bad = 0;
    signal(SIGUSR1, wide ? clobber_wide : clobber);
    struct sigaction a = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &a, NULL);
    int null = open("/dev/null", O_RDWR);
    struct timespec now;
    struct {
        long number, first, second, third;
    } calls[] = {
        {SYS_getpid, 0, 0, 0},
        {SYS_write, null, (long)before, 512},
        {SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0},
        {SYS_write, -1, 0, 0},
        {SYS_read, null, 8, 16},
        {SYS_open, 8, 0, 0},
        {SYS_getrandom, (long)after, 300, 0},
        {SYS_kill, getpid(), SIGUSR1, 0},
    };
    for (int round = 0; round < 200; round++)
        for (unsigned c = 0; c < sizeof calls / sizeof *calls; c++) {
            fill(round + c);
            long ax = calls[c].number, di = calls[c].first, si = calls[c].second, dx = calls[c].third;
            ROUND(LOAD_X, STORE_X, "syscall\n");
            bad += same(16);
            if (wide) {
                ax = calls[c].number;
                ROUND(LOAD_Y, STORE_Y, "syscall\n");
                bad += same(32);
            }
        }
    printf("calls: %d bad\n", bad);
    for (int round = 0; round < 50; round++) {
        fill(round);
        long ax = 0, di = 0, si = 0, dx = 0;
        ROUND(LOAD_X, STORE_X, "ud2\n");
        bad += same(16);
        if (wide) {
            ROUND(LOAD_Y, STORE_Y, "ud2\n");
            bad += same(32);
        }
    }
    printf("faults: %d of %d bad\n", bad, faults == (wide ? 100 : 50));
    unsigned csr = 0x5f80, got = 0;
    __asm__ volatile("ldmxcsr %0" ::"m"(csr));
    raise(SIGUSR1);
    __asm__ volatile("stmxcsr %0" : "=m"(got));
    printf("mxcsr %d\n", (got & 0xffc0) == (csr & 0xffc0));
    long double x = 3, y = 7;
    __asm__ volatile("" : "+t"(x), "+u"(y));
    raise(SIGUSR1);
    printf("%.3Lf\n", x * y);
    /* Flags come back from a system call, the direction flag among them. */
    unsigned long flags;
    __asm__ volatile("std\n mov $39, %%eax\n syscall\n pushfq\n pop %0\n cld" : "=r"(flags)::"rax", "rcx", "r11", "memory");
    printf("direction %lu\n", flags >> 10 & 1);
    return 0;
}
