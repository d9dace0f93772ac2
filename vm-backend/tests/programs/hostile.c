/* Does in the way that argv[1] names what no program should do. Its environment tells it where everything lies. */
#include "check.h"

static uint64_t place(const char *name) {
    const char *text = getenv(name);
    if (!text)
        exit(77);
    return strtoull(text, NULL, 10);
}

#define BOOT place("BOOT")
#define HOT place("HOT")
#define CPU place("CPU")
#define STUB place("STUB")
#define TABLES place("TABLES")
#define PAGE_TABLES place("PAGE_TABLES")
#define IMAGE place("IMAGE")
#define STACK_TOP place("STACK_TOP")
#define FILES place("FILES")

static void out(unsigned port, unsigned value) {
    __asm__ volatile("out %%al, %%dx" ::"d"(port), "a"(value));
}

struct request {
    uint64_t op, args[4];
    int64_t result;
};

static volatile struct request *block;

static int64_t ask(uint64_t op, uint64_t a, uint64_t b, uint64_t c) {
    volatile struct request *r = block;
    r->op = op, r->args[0] = a, r->args[1] = b, r->args[2] = c, r->result = 0;
    out(0xf0, 0);
    return r->result;
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    block = (volatile struct request *)BOOT;
    printf("%s\n", how);
    fflush(stdout);
    if (!strcmp(how, "hlt"))
        __asm__ volatile("hlt");
    if (!strcmp(how, "cli"))
        __asm__ volatile("cli\n sti\n cli");
    if (!strcmp(how, "lgdt"))
        __asm__ volatile("lgdt (%0)" ::"r"(&argc));
    if (!strcmp(how, "lidt"))
        __asm__ volatile("lidt (%0)" ::"r"(&argc));
    if (!strcmp(how, "wrmsr"))
        __asm__ volatile("wrmsr" ::"c"(0xc0000082), "a"(0), "d"(0));
    if (!strcmp(how, "cr3"))
        __asm__ volatile("mov %0, %%cr3" ::"r"(0ul));
    if (!strcmp(how, "iretq"))
        __asm__ volatile("push $0\n push $0\n push $0\n push $8\n push $0\n iretq");
    if (!strcmp(how, "sysret"))
        __asm__ volatile("sysretq");
    if (!strcmp(how, "swapgs"))
        __asm__ volatile("swapgs");
    if (!strcmp(how, "vmcall"))
        __asm__ volatile("vmcall" ::"a"(1));
    if (!strcmp(how, "vmmcall"))
        __asm__ volatile("vmmcall" ::"a"(1));
    if (!strcmp(how, "int80"))
        __asm__ volatile("int $0x80" ::"a"(1), "b"(7));
    if (!strcmp(how, "interrupts"))
        __asm__ volatile("int $2");
    if (!strcmp(how, "int8"))
        __asm__ volatile("int $8");
    if (!strcmp(how, "int13"))
        __asm__ volatile("int $13");
    if (!strcmp(how, "int255"))
        __asm__ volatile("int $255");
    if (!strcmp(how, "in")) {
        unsigned char value;
        for (unsigned port = 0; port < 0x10000; port += 257)
            __asm__ volatile("in %%dx, %%al" : "=a"(value) : "d"(port));
    }
    if (!strcmp(how, "out"))
        for (unsigned port = 0x100; port < 0x10000; port += 257)
            out(port, 1);
    if (!strcmp(how, "exception-port"))
        out(0x4e, 1);
    if (!strcmp(how, "string-out")) {
        static char text[4096];
        char *from = text;
        long count = sizeof text;
        __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0x3f8));
        count = 16, from = text;
        __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0x42));
    }
    if (!strcmp(how, "stack-pointer")) {
        /* A system call with a stack pointer that points nowhere must still be served. */
        register long result __asm__("rax") = SYS_getpid;
        __asm__ volatile("mov %%rsp, %%rbx\n mov $0x4141414141414141, %%rsp\n syscall\n mov %%rbx, %%rsp"
                         : "+r"(result)::"rbx", "rcx", "r11", "memory");
        printf("pid %d\n", result == getpid());
        return 0;
    }
    if (!strcmp(how, "stack-pointer-fault"))
        __asm__ volatile("mov $0x4141414141414141, %%rsp\n push %%rax" ::: "memory");
    if (!strcmp(how, "stack-pointer-handler")) {
        signal(SIGILL, (void (*)(int))(void *)main);
        __asm__ volatile("mov $0x10, %%rsp\n ud2" ::: "memory");
    }
    if (!strcmp(how, "stack-in-guest"))
        __asm__ volatile("mov %0, %%rsp\n mov $39, %%eax\n syscall\n 1: push %%rax\n jmp 1b" ::"r"(HOT + 0x2000)
                         : "memory");
    if (!strcmp(how, "single-step"))
        __asm__ volatile("pushfq\n orl $0x100, (%%rsp)\n popfq\n nop\n nop" ::: "memory");
    if (!strcmp(how, "nested-task"))
        __asm__ volatile("pushfq\n orl $0x4000, (%%rsp)\n popfq\n mov $39, %%eax\n syscall\n ud2" ::
                             : "rax", "rcx", "r11", "memory");
    if (!strcmp(how, "alignment"))
        __asm__ volatile("pushfq\n orl $0x40000, (%%rsp)\n popfq\n mov 1(%%rsp), %%eax" ::: "rax", "memory");
    if (!strcmp(how, "segments"))
        __asm__ volatile("mov %0, %%ds\n mov %0, %%es\n mov %0, %%fs\n mov $39, %%eax\n syscall\n ud2" ::"r"(0)
                         : "rax", "rcx", "r11", "memory");
    if (!strcmp(how, "ring0-segment"))
        __asm__ volatile("mov %0, %%ss" ::"r"(0x10));
    if (!strcmp(how, "far-jump"))
        __asm__ volatile("push $8\n push $0\n lretq");
    if (!strcmp(how, "32-bit"))
        __asm__ volatile("push $0x23\n lea 1f(%%rip), %%rax\n push %%rax\n lretq\n 1:" ::: "rax");
    if (!strcmp(how, "zero-cpu-page"))
        memset((void *)CPU, 0, 4096);
    if (!strcmp(how, "zero-stub"))
        memset((void *)STUB, 0, 64);
    if (!strcmp(how, "spin-in-ring0"))
        memcpy((void *)STUB, "\xeb\xfe", 2);
    if (!strcmp(how, "halt-in-ring0"))
        memcpy((void *)STUB, "\xf4\xeb\xfd", 3);
    if (!strcmp(how, "cr3-in-ring0"))
        memcpy((void *)STUB, "\x48\xc7\xc0\x00\xf0\xff\x7f\x0f\x22\xd8\xeb\xfe", 12);
    if (!strcmp(how, "zero-boot"))
        memset((void *)BOOT, 0xff, 4096);
    if (!strcmp(how, "zero-hot"))
        memset((void *)HOT, 0xff, 0x4000);
    if (!strcmp(how, "guest-code"))
        memset((void *)IMAGE, 0x90, 0x10000);
    if (!strcmp(how, "jump-into-guest"))
        ((void (*)(void))(IMAGE + 0x1000))();
    if (!strcmp(how, "jump-into-tables"))
        ((void (*)(void))TABLES)();
    if (!strcmp(how, "page-tables"))
        memset((void *)PAGE_TABLES, 0, 4096);
    if (!strcmp(how, "unopened-file"))
        return *(volatile char *)(FILES + (2 << 20));
    if (!strcmp(how, "execute-unopened-file"))
        ((void (*)(void))(FILES + (2 << 20)))();
    if (!strcmp(how, "beyond-files"))
        return *(volatile char *)(FILES + (60ul << 30));
    if (!strcmp(how, "bad-operation"))
        ask(0x1234, 0, 0, 0);
    if (!strcmp(how, "requests")) {
        const uint64_t values[] = {0,          1,          2,     3,         4,        5,          4096,
                                          0x400000,   0x400001,   BOOT,  HOT,       IMAGE,    FILES,      1ul << 38,
                                          1ul << 47,  1ul << 63,  -1ul,  -4096ul,   -8ul,     0x7fffffff, 0xffffffff,
                                          0x80000000, STACK_TOP - 8, STACK_TOP, PAGE_TABLES};
        enum { N = sizeof values / sizeof *values };
        int64_t sum = 0;
        for (uint64_t op = 2; op <= 11; op++)
            for (int a = 0; a < N; a++)
                for (int b = 0; b < N; b += 2)
                    for (int c = 0; c < N; c += 8) {
                        /* Not those that wait or that print what they please. */
                        if (op == 7 && values[a] > 4096)
                            continue;
                        if (op == 2 && (values[a] == 1 || values[a] == 2))
                            continue;
                        if (op == 8 && (int)values[c] != 0)
                            continue;
                        if (op == 4 && (b || c))
                            continue;
                        if (op == 11 && values[a] == 0)
                            continue;
                        sum += ask(op, values[a], values[b], values[c]);
                    }
        /* Nothing is left of the program's own memory for certain; only the end counts. */
        ask(0, 55, 0, 0);
    }
    if (!strcmp(how, "unknown-signal"))
        ask(1, 9999, 5, 0);
    if (!strcmp(how, "release-everything")) {
        ask(6, 0x400000, 1ul << 37, 0);
        ask(6, 0, -1ul, 0);
        ask(6, (uint64_t)&argc & -4096ul, 4096, 0);
    }
    /* Whatever was destroyed, a system call follows. */
    return getppid() < 0;
}
