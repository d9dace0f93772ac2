/* Handlers, masks, alternate stacks. */
#include "check.h"
#include <ucontext.h>

static volatile int count, last, order[16];
static char alternate[65536];
static sigjmp_buf back;

static void plain(int number) {
    order[count & 15] = number;
    count++;
    last = number;
}

static volatile int code, has_pid, on_alternate;
static void informed(int number, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    char here;
    plain(number);
    code = info->si_code;
    has_pid = info->si_pid == getpid() && info->si_uid == getuid();
    on_alternate = &here >= alternate && &here < alternate + sizeof alternate;
    if (u->uc_mcontext.gregs[REG_RIP] == 0)
        count += 1000;
}

static void on(int number, void (*handler)(int), int flags, int blocked) {
    struct sigaction a = {.sa_flags = flags};
    if (flags & SA_SIGINFO)
        a.sa_sigaction = (void (*)(int, siginfo_t *, void *))(void *)handler;
    else
        a.sa_handler = handler;
    sigemptyset(&a.sa_mask);
    if (blocked)
        sigaddset(&a.sa_mask, blocked);
    if (sigaction(number, &a, NULL))
        printf("sigaction: errno %d\n", errno);
}

static void sending(void) {
    on(SIGUSR1, plain, 0, 0);
    SHOW(raise(SIGUSR1));
    printf("count %d last %d\n", count, last);
    on(SIGUSR2, (void *)informed, SA_SIGINFO, 0);
    SHOW(kill(getpid(), SIGUSR2));
    printf("count %d last %d code %d pid %d\n", count, last, code, has_pid);
    SHOW(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR2));
    printf("count %d code %d pid %d\n", count, code, has_pid);
    on(SIGRTMAX, plain, 0, 0);
    SHOW(raise(SIGRTMAX));
    printf("last %d\n", last == SIGRTMAX);
    signal(SIGUSR1, SIG_IGN);
    SHOW(raise(SIGUSR1));
    signal(SIGUSR1, SIG_DFL);
    SHOW(raise(SIGCHLD));
    SHOW(raise(SIGWINCH));
    on(SIGUSR1, plain, SA_RESETHAND, 0);
    SHOW(raise(SIGUSR1));
    struct sigaction old;
    SHOW(sigaction(SIGUSR1, NULL, &old));
    CHECK(old.sa_handler == SIG_DFL);
    SHOW(sigaction(SIGUSR2, NULL, &old));
    CHECK(old.sa_sigaction == informed && (old.sa_flags & SA_SIGINFO));
    struct sigaction none = {.sa_handler = SIG_IGN};
    SHOW(sigaction(SIGKILL, &none, NULL));
    SHOW(sigaction(65, &none, NULL));
    SHOW(sigaction(0, &none, NULL));
    printf("count %d\n", count);
}

static void masks(void) {
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGTERM);
    count = 0;
    on(SIGUSR1, plain, 0, 0), on(SIGUSR2, plain, 0, 0), on(SIGTERM, plain, 0, 0);
    SHOW(sigprocmask(SIG_BLOCK, &set, &old));
    CHECK(!sigismember(&old, SIGUSR1));
    raise(SIGUSR2), raise(SIGTERM), raise(SIGUSR1), raise(SIGUSR1);
    printf("while blocked %d\n", count);
    SHOW(sigpending(&pending));
    CHECK(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGTERM) && !sigismember(&pending, SIGINT));
    SHOW(sigprocmask(SIG_SETMASK, &old, &set));
    CHECK(sigismember(&set, SIGUSR1));
    printf("afterwards %d:", count);
    for (int i = 0; i < count && i < 16; i++)
        printf(" %d", order[i]);
    printf("\n");
    SHOW(sigprocmask(99, &set, NULL));
    SHOW(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 4));
    /* Ignored while blocked, and wanted again before it is unblocked. */
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &set, NULL);
    count = 0;
    raise(SIGCHLD);
    on(SIGCHLD, plain, 0, 0);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    printf("child %d\n", count);
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    count = 0;
    raise(SIGUSR1);
    SHOW(sigsuspend(&old));
    printf("suspended until %d signals\n", count);
    sigprocmask(SIG_SETMASK, NULL, &set);
    CHECK(sigismember(&set, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static volatile int depth, deepest, calls;
static void nesting(int number) {
    (void)number;
    if (++depth > deepest)
        deepest = depth;
    if (++calls < 3)
        raise(SIGUSR1);
    depth--;
}

static void nested(void) {
    on(SIGUSR1, nesting, 0, 0);
    raise(SIGUSR1);
    printf("blocked in its own handler: deepest %d\n", deepest);
    deepest = calls = 0;
    on(SIGUSR1, nesting, SA_NODEFER, 0);
    raise(SIGUSR1);
    printf("not deferred: deepest %d\n", deepest);
}

static void alternate_stack(void) {
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate}, old;
    SHOW(sigaltstack(NULL, &old));
    CHECK(old.ss_flags == SS_DISABLE);
    SHOW(sigaltstack(&stack, NULL));
    on(SIGUSR1, (void *)informed, SA_SIGINFO | SA_ONSTACK, 0);
    raise(SIGUSR1);
    printf("on the alternate stack %d\n", on_alternate);
    on(SIGUSR1, (void *)informed, SA_SIGINFO, 0);
    raise(SIGUSR1);
    printf("without the flag %d\n", on_alternate);
    SHOW(sigaltstack(NULL, &old));
    CHECK(old.ss_sp == alternate && old.ss_size == sizeof alternate && old.ss_flags == 0);
    stack.ss_size = 100;
    SHOW(sigaltstack(&stack, NULL));
    stack.ss_size = sizeof alternate;
    stack.ss_flags = 77;
    SHOW(sigaltstack(&stack, NULL));
    stack.ss_flags = SS_DISABLE;
    SHOW(sigaltstack(&stack, NULL));
    SHOW(sigaltstack(NULL, &old));
    CHECK(old.ss_flags == SS_DISABLE);
}

static volatile unsigned long address;
static volatile long trap, fault_code;
static void jump_out(int number, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    address = (unsigned long)info->si_addr;
    code = info->si_code;
    trap = u->uc_mcontext.gregs[REG_TRAPNO];
    fault_code = u->uc_mcontext.gregs[REG_ERR];
    siglongjmp(back, number);
}

static int recurse(int n) {
    volatile char frame[1000];
    frame[0] = (char)n;
    return recurse(n + 1) + frame[0];
}

static const int constant = 5;

static void faults(void) {
    on(SIGSEGV, (void *)jump_out, SA_SIGINFO | SA_ONSTACK, 0);
    on(SIGFPE, (void *)jump_out, SA_SIGINFO, 0);
    on(SIGILL, (void *)jump_out, SA_SIGINFO, 0);
    on(SIGTRAP, (void *)jump_out, SA_SIGINFO, 0);
    on(SIGBUS, (void *)jump_out, SA_SIGINFO, 0);
    int n;
    for (int i = 0; i < 3; i++) {
        if ((n = sigsetjmp(back, 1)) == 0)
            *(volatile int *)0x10 = 1;
        printf("null: %d at %lx code %d trap %ld error %ld\n", n, address, code, trap, fault_code);
    }
    if ((n = sigsetjmp(back, 1)) == 0)
        *(volatile int *)&constant = 1;
    printf("constant: %d %d code %d error %ld\n", n, address == (unsigned long)&constant, code, fault_code);
    if ((n = sigsetjmp(back, 1)) == 0)
        ((void (*)(void))0)();
    printf("call of null: %d at %lx code %d error %ld\n", n, address, code, fault_code);
    volatile unsigned long far = 0x8000000000000000;
    if ((n = sigsetjmp(back, 1)) == 0)
        *(volatile int *)far = 1;
    printf("not canonical: %d at %lx code %d trap %ld\n", n, address, code, trap);
    volatile int zero = 0;
    if ((n = sigsetjmp(back, 1)) == 0)
        zero = 100 / zero;
    printf("division: %d code %d trap %ld\n", n, code, trap);
    if ((n = sigsetjmp(back, 1)) == 0)
        __asm__ volatile("ud2");
    printf("illegal: %d code %d\n", n, code);
    if ((n = sigsetjmp(back, 1)) == 0)
        __asm__ volatile("int3");
    printf("breakpoint: %d code %d\n", n, code);
    if ((n = sigsetjmp(back, 1)) == 0)
        __asm__ volatile("hlt");
    printf("privileged: %d code %d at %lx\n", n, code, address);
    if ((n = sigsetjmp(back, 1)) == 0)
        __asm__ volatile("mov %0, %%rax\n push %%rbp\n mov %%rax, %%rbp\n mov (%%rbp), %%rax\n pop %%rbp" ::"r"(far)
                         : "rax");
    printf("stack segment: %d code %d\n", n, code);
    if ((n = sigsetjmp(back, 1)) == 0) {
        unsigned csr = 0x1f80 & ~(1 << 9);
        __asm__ volatile("ldmxcsr %0\n divss %1, %1" ::"m"(csr), "x"(0.0f * zero));
        __asm__ volatile("xorps %%xmm1, %%xmm1\n mov $0x3f800000, %%eax\n movd %%eax, %%xmm0\n divss %%xmm1, %%xmm0" ::
                             : "xmm0", "xmm1", "eax");
    }
    unsigned csr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(csr));
    printf("vector division: %d code %d trap %ld\n", n, code, trap);
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    for (int i = 0; i < 2; i++) {
        if ((n = sigsetjmp(back, 1)) == 0)
            recurse(0);
        printf("stack: %d code %d\n", n, code);
    }
    sigset_t set;
    sigprocmask(SIG_SETMASK, NULL, &set);
    CHECK(!sigismember(&set, SIGSEGV));
}

/* A handler that repairs the cause: the instruction is run again, with all registers as they were. */
static char *volatile repaired;
static void repair(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    ucontext_t *u = context;
    u->uc_mcontext.gregs[REG_RBX] = (long)repaired;
}

static void repairing(void) {
    static char place[64];
    repaired = place;
    on(SIGSEGV, (void *)repair, SA_SIGINFO, 0);
    unsigned long rcx = 1, r11 = 2, r15 = 3;
    __asm__ volatile("xor %%ebx, %%ebx\n movb $77, 8(%%rbx)" : "+c"(rcx)::"rbx", "memory");
    register unsigned long a __asm__("r11") = r11, b __asm__("r15") = r15;
    __asm__ volatile("xor %%ebx, %%ebx\n movb $78, 9(%%rbx)" : "+r"(a), "+r"(b)::"rbx", "memory");
    printf("repaired %d %d, registers %lu %lu %lu\n", place[8], place[9], rcx, a, b);
}

int main(void) {
    sending();
    masks();
    nested();
    alternate_stack();
    faults();
    repairing();
    return 0;
}
