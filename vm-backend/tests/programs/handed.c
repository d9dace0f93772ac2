/* A file handed over, at argv[1]; argv[2] is one that is not there. */
#include "check.h"

int main(int argc, char **argv) {
    (void)argc;
    struct stat s;
    SHOW(stat(argv[2], &s));
    SHOW(open(argv[2], O_RDONLY));
    SHOW(stat(argv[1], &s));
    printf("size %ld type %o\n", (long)s.st_size, s.st_mode & S_IFMT);
    int fd = open(argv[1], O_RDONLY);
    CHECK(fd >= 0);
    static unsigned char buffer[70000];
    unsigned long sum = 0, total = 0;
    for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0; total += n)
        for (ssize_t i = 0; i < n; i++)
            sum = sum * 31 + buffer[i];
    printf("%lu bytes, sum %lx\n", total, sum);
    SHOW(lseek(fd, -3, SEEK_END));
    SHOW(read(fd, buffer, 10));
    printf("%.3s\n", buffer);
    SHOW(pread(fd, buffer, 10, s.st_size));
    SHOW(pread(fd, buffer, 10, s.st_size + 100000));
    unsigned char *map = mmap(NULL, s.st_size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(map != MAP_FAILED && map[s.st_size - 1] == buffer[2]);
    map[0]++;
    SHOW(pread(fd, buffer, 1, 0));
    CHECK(buffer[0] + 1 == map[0]);
    SHOW(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 123) == MAP_FAILED);
    SHOW(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 999, 0) == MAP_FAILED);
    SHOW(access(argv[1], R_OK));
    SHOW(write(fd, "x", 1));
    SHOW(close(fd));
    char inside[PATH_MAX];
    snprintf(inside, sizeof inside, "%s/x", argv[1]);
    SHOW(open(inside, O_RDONLY));
    FILE *f = fopen(argv[1], "r");
    CHECK(fgets((char *)buffer, 100, f) != NULL);
    printf("%s", buffer);
    fclose(f);
    return 0;
}
