/* A writable /tmp: every call of it that a program commonly makes. */
#include "check.h"

static char dir[] = "/tmp/vm-files-XXXXXX";

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
    char *names[600];
    int n = 0;
    DIR *d = opendir(path);
    if (!d) {
        printf("opendir: errno %d\n", errno);
        return;
    }
    for (struct dirent *e; (e = readdir(d)) && n < 600;)
        names[n++] = strdup(e->d_name);
    closedir(d);
    qsort(names, n, sizeof *names, by_name);
    printf("listing:");
    for (int i = 0; i < n; i++)
        printf(" %s", names[i]);
    printf("\n");
}

static void show_stat(const char *name) {
    struct stat s;
    if (stat(name, &s)) {
        printf("stat %s: errno %d\n", name, errno);
        return;
    }
    printf("%s: mode %o", name, s.st_mode);
    if (S_ISREG(s.st_mode))
        printf(" size %ld", (long)s.st_size);
    printf("\n");
}

static void reading_and_writing(void) {
    char buffer[64] = {0};
    int fd = open("a", O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(fd >= 0);
    SHOW(open("a", O_RDWR | O_CREAT | O_EXCL, 0600));
    SHOW(write(fd, "hello world", 11));
    SHOW(lseek(fd, 6, SEEK_SET));
    SHOW(read(fd, buffer, sizeof buffer));
    printf("read %s\n", buffer);
    SHOW(read(fd, buffer, sizeof buffer));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(lseek(fd, -1, SEEK_END));
    SHOW(lseek(fd, -100, SEEK_SET));
    SHOW(lseek(fd, 0, 99));
    SHOW(pread(fd, buffer, 5, 0));
    SHOW(pwrite(fd, "HELLO", 5, 0));
    SHOW(pread(fd, buffer, 5, -1));
    SHOW(lseek(fd, 0, SEEK_CUR));
    struct iovec out[4] = {{"one", 3}, {NULL, 0}, {"two", 3}, {"three", 5}};
    SHOW(writev(fd, out, 4));
    SHOW(writev(fd, out, -1));
    SHOW(writev(fd, out, 1025));
    struct iovec huge[2] = {{buffer, SIZE_MAX / 2}, {buffer, SIZE_MAX / 2}};
    SHOW(writev(fd, huge, 2));
    SHOW(lseek(fd, 0, SEEK_SET));
    char x[4] = {0}, y[9] = {0};
    struct iovec in[2] = {{x, 3}, {y, 8}};
    SHOW(readv(fd, in, 2));
    printf("%s|%s\n", x, y);
    /* Past the end: a gap of zeros. */
    SHOW(lseek(fd, 5000, SEEK_SET));
    SHOW(read(fd, buffer, 10));
    SHOW(write(fd, "x", 1));
    SHOW(pread(fd, buffer, 10, 4000));
    int sum = 0;
    for (int i = 0; i < 10; i++)
        sum += buffer[i];
    printf("sum of the gap %d\n", sum);
    SHOW(ftruncate(fd, 3));
    SHOW(ftruncate(fd, -1));
    SHOW(ftruncate(fd, 20));
    SHOW(pread(fd, buffer, 20, 0));
    fwrite(buffer, 1, 3, stdout);
    for (int i = 3; i < 20; i++)
        printf(" %d", buffer[i]);
    printf("\n");
    SHOW(fsync(fd));
    SHOW(fdatasync(fd));
    struct stat s;
    SHOW(fstat(fd, &s));
    printf("mode %o size %ld links %ld\n", s.st_mode, (long)s.st_size, (long)s.st_nlink);
    SHOW(close(fd));
    SHOW(close(fd));
    SHOW(write(fd, "x", 1));

    fd = open("a", O_WRONLY | O_APPEND);
    SHOW(write(fd, "-end", 4));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(write(fd, "-more", 5));
    SHOW(read(fd, buffer, 1));
    close(fd);
    fd = open("a", O_RDONLY);
    SHOW(write(fd, "x", 1));
    SHOW(ftruncate(fd, 0));
    close(fd);
    show_stat("a");
    fd = open("a", O_WRONLY | O_TRUNC);
    close(fd);
    show_stat("a");
}

static void names(void) {
    SHOW(mkdir("d", 0750));
    SHOW(mkdir("d", 0750));
    SHOW(mkdir("missing/d", 0750));
    show_stat("d");
    int fd = open("d/f", O_WRONLY | O_CREAT, 0600);
    SHOW(write(fd, "12345", 5));
    close(fd);
    show_stat("d/f");
    show_stat("d/../d/./f");
    show_stat("d/f/g");
    SHOW(open("d", O_WRONLY));
    SHOW(open("missing", O_RDONLY));
    SHOW(open("a", O_RDONLY | O_DIRECTORY));
    SHOW(open("", O_RDONLY));
    SHOW(rmdir("d"));
    SHOW(unlink("d"));
    SHOW(rmdir("a"));
    SHOW(rename("d/f", "d/g"));
    SHOW(rename("d/f", "d/g"));
    SHOW(rename("d", "d/inside"));
    list("d");
    SHOW(rename("d/g", "a"));
    show_stat("a");
    SHOW(rename("a", "d"));
    SHOW(chmod("a", 0400));
    show_stat("a");
    SHOW(access("a", F_OK));
    SHOW(access("a", X_OK));
    SHOW(access("missing", F_OK));
    SHOW(truncate("a", 2));
    show_stat("a");
    SHOW(chdir("d"));
    SHOW(mkdirat(AT_FDCWD, "sub", 0700));
    char cwd[PATH_MAX];
    CHECK(getcwd(cwd, sizeof cwd) != NULL);
    printf("cwd ends in %s\n", strrchr(cwd, '/'));
    SHOW(syscall(SYS_getcwd, cwd, 3));
    SHOW(chdir(".."));
    SHOW(chdir("a"));
    SHOW(readlink("a", cwd, sizeof cwd));
    SHOW(readlink("missing", cwd, sizeof cwd));
    int at = open("d", O_RDONLY | O_DIRECTORY);
    int inside = openat(at, "new", O_CREAT | O_WRONLY, 0600);
    CHECK(inside >= 0);
    close(inside);
    struct stat s;
    SHOW(fstatat(at, "new", &s, 0));
    SHOW(fstatat(at, "", &s, AT_EMPTY_PATH));
    CHECK(S_ISDIR(s.st_mode));
    SHOW(read(at, cwd, 10));
    SHOW(unlinkat(at, "new", 0));
    SHOW(unlinkat(at, "sub", AT_REMOVEDIR));
    SHOW(fchdir(at));
    SHOW(chdir(".."));
    close(at);
    SHOW(openat(9999, "x", O_RDONLY));
    SHOW(rmdir("d"));
    list(".");
    char too_long[300];
    memset(too_long, 'n', sizeof too_long);
    too_long[299] = 0;
    SHOW(open(too_long, O_CREAT | O_WRONLY, 0600));
}

static void an_open_file_outlives_its_name(void) {
    int fd = open("gone", O_RDWR | O_CREAT, 0600);
    SHOW(write(fd, "still here", 10));
    SHOW(unlink("gone"));
    SHOW(open("gone", O_RDONLY));
    char buffer[11] = {0};
    SHOW(pread(fd, buffer, 10, 0));
    printf("%s\n", buffer);
    close(fd);
    SHOW(unlink("gone"));
    SHOW(mkdir("removed", 0700));
    int at = open("removed", O_RDONLY | O_DIRECTORY);
    SHOW(rmdir("removed"));
    SHOW(openat(at, "x", O_CREAT | O_WRONLY, 0600));
    SHOW(mkdirat(at, "x", 0700));
    close(at);
}

static void descriptors(void) {
    int fd = open("a", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    SHOW(fcntl(fd, F_GETFD));
    SHOW(fcntl(fd, F_SETFD, 0));
    SHOW(fcntl(fd, F_GETFD));
    CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
    SHOW(fcntl(fd, F_SETFL, O_APPEND));
    CHECK((fcntl(fd, F_GETFL) & O_APPEND) != 0);
    int second = dup(fd);
    CHECK(second > fd);
    SHOW(lseek(fd, 1, SEEK_SET));
    SHOW(lseek(second, 0, SEEK_CUR));
    SHOW(dup2(fd, 40));
    SHOW(dup2(fd, fd) == fd);
    SHOW(dup2(fd, -1));
    SHOW(dup2(999, 41));
    SHOW(dup3(fd, fd, 0));
    SHOW(dup3(fd, 41, O_CLOEXEC));
    SHOW(fcntl(41, F_GETFD));
    SHOW(fcntl(fd, F_DUPFD, 50));
    SHOW(fcntl(fd, F_DUPFD_CLOEXEC, 50));
    SHOW(fcntl(fd, F_DUPFD, -1));
    SHOW(fcntl(999, F_GETFD));
    SHOW(fcntl(fd, 9999));
    SHOW(ioctl(fd, TCGETS, NULL));
    SHOW(isatty(fd));
    SHOW(close(40));
    SHOW(close(41));
    SHOW(close(-1));
    close(50), close(51), close(second), close(fd);
    /* The lowest free number is handed out. */
    int first = open("a", O_RDONLY), third = open("a", O_RDONLY);
    close(first);
    CHECK(open("a", O_RDONLY) == first);
    close(first), close(third);
}

static void large_file(void) {
    enum { PIECE = 1 << 16, PIECES = 320 };
    static unsigned char piece[PIECE];
    int fd = open("large", O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < PIECES; i++) {
        memset(piece, i % 251, PIECE);
        if (write(fd, piece, PIECE) != PIECE) {
            printf("write %d: errno %d\n", i, errno);
            break;
        }
    }
    show_stat("large");
    unsigned long sum = 0;
    lseek(fd, 0, SEEK_SET);
    for (ssize_t n; (n = read(fd, piece, 60000)) > 0;)
        for (ssize_t i = 0; i < n; i++)
            sum = sum * 31 + piece[i];
    printf("sum %lx\n", sum);
    unsigned char *map = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE, fd, PIECE * 5);
    CHECK(map != MAP_FAILED && map[0] == 5 && map[PIECE] == 6);
    munmap(map, 1 << 20);
    close(fd);
    SHOW(unlink("large"));
}

static void many_files_are_removed_while_they_are_listed(void) {
    char name[64];
    SHOW(mkdir("many", 0700));
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "many/a-rather-long-name-of-file-%d", i);
        int fd = open(name, O_CREAT | O_WRONLY, 0600);
        if (fd < 0)
            printf("%s: errno %d\n", name, errno);
        close(fd);
    }
    /* In small steps, as a C library with a small buffer reads them. */
    int fd = open("many", O_RDONLY | O_DIRECTORY);
    char buffer[256];
    long n;
    int seen = 0;
    while ((n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < n;) {
            struct dirent64 *e = (struct dirent64 *)(buffer + at);
            at += e->d_reclen;
            if (e->d_name[0] == '.')
                continue;
            snprintf(name, sizeof name, "many/%.40s", e->d_name);
            seen += unlink(name) == 0;
        }
    close(fd);
    printf("removed %d, then %d\n", seen, rmdir("many"));
    fd = open(".", O_RDONLY | O_DIRECTORY);
    SHOW(syscall(SYS_getdents64, fd, buffer, 5));
    SHOW(syscall(SYS_getdents64, 0, buffer, 100) < 0);
    close(fd);
}

int main(void) {
    umask(0);
    CHECK(mkdtemp(dir) != NULL && chdir(dir) == 0);
    reading_and_writing();
    names();
    an_open_file_outlives_its_name();
    descriptors();
    large_file();
    many_files_are_removed_while_they_are_listed();
    SHOW(unlink("a"));
    list(".");
    SHOW(chdir("/"));
    SHOW(rmdir(dir));
    FILE *f = tmpfile();
    CHECK(f != NULL && fputs("text", f) >= 0 && fseek(f, 1, SEEK_SET) == 0 && fgetc(f) == 'e');
    fclose(f);
    return 0;
}
