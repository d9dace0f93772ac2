/* What a program finds when it starts: arguments, environment, auxiliary vector, thread-local variables. */
#include "check.h"
#include <elf.h>

extern char **environ;
static __thread int local = 42;
static __thread char zeroed[100];

int main(int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        printf("argv[%d] = %s\n", i, argv[i]);
    CHECK(argv[argc] == NULL);
    for (char **e = environ; *e; e++)
        printf("env %s\n", *e);
    CHECK(getauxval(AT_PAGESZ) == 4096);
    printf("execfn %s\n", (char *)getauxval(AT_EXECFN));
    printf("phent %lu phnum %lu secure %lu clock %lu\n", getauxval(AT_PHENT), getauxval(AT_PHNUM),
           getauxval(AT_SECURE), getauxval(AT_CLKTCK));
    const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
    int loads = 0;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++)
        loads += headers[i].p_type == PT_LOAD;
    printf("%d segments\n", loads);
    const unsigned char *random = (const unsigned char *)getauxval(AT_RANDOM);
    int set = 0;
    for (int i = 0; i < 16; i++)
        set |= random[i];
    CHECK(set != 0);
    CHECK(getauxval(AT_ENTRY) != 0);
    char path[PATH_MAX] = {0};
    CHECK(readlink("/proc/self/exe", path, sizeof path) > 0);
    printf("exe %s\n", path);
    SHOW(readlink("/proc/self/exe", path, 3));
    char head[4] = {0};
    int exe = open("/proc/self/exe", O_RDONLY);
    CHECK(read(exe, head, 4) == 4 && memcmp(head, "\177ELF", 4) == 0);
    struct stat by_link, by_path;
    CHECK(stat("/proc/self/exe", &by_link) == 0 && stat(path, &by_path) == 0);
    CHECK(S_ISREG(by_link.st_mode) && by_link.st_size == by_path.st_size && by_link.st_size > 1000);
    CHECK(lstat("/proc/self/exe", &by_link) == 0 && S_ISLNK(by_link.st_mode));
    CHECK(access("/proc/self/exe", X_OK) == 0);
    local++;
    zeroed[5] = 7;
    printf("thread-local %d %d %d\n", local, zeroed[4], zeroed[5]);
    /* The stack is aligned as the ABI says, or this faults. */
    __attribute__((aligned(16))) volatile double vector[2] = {1.5, 2.5};
    printf("%g\n", vector[0] + vector[1]);
    return argc;
}
