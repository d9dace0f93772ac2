/* /dev/null, zero, full, urandom, and the standard streams as seen by stat. */
#include "check.h"

static void show_device(const char *path) {
    struct stat s;
    if (stat(path, &s)) {
        printf("%s: errno %d\n", path, errno);
        return;
    }
    printf("%s: type %o device %lx size %ld\n", path, s.st_mode & S_IFMT, (long)s.st_rdev, (long)s.st_size);
}

int main(void) {
    static unsigned char buffer[100000], other[100000];
    show_device("/dev/null");
    show_device("/dev/zero");
    show_device("/dev/full");
    show_device("/dev/urandom");
    show_device("/dev/missing");
    int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR), full = open("/dev/full", O_RDWR);
    int random = open("/dev/urandom", O_RDONLY);
    SHOW(write(null, buffer, 1000));
    SHOW(read(null, buffer, 1000));
    SHOW(ioctl(null, TCGETS, buffer));
    memset(buffer, 1, sizeof buffer);
    SHOW(read(zero, buffer, 5000));
    int sum = 0;
    for (int i = 0; i < 5000; i++)
        sum += buffer[i];
    printf("sum of zeros %d, next %d\n", sum, buffer[5000]);
    SHOW(write(zero, buffer, 5000));
    SHOW(write(full, buffer, 10));
    SHOW(read(full, buffer, 10));
    SHOW(read(random, buffer, sizeof buffer));
    SHOW(read(random, other, sizeof other));
    CHECK(memcmp(buffer, other, sizeof buffer) != 0);
    CHECK(memcmp(buffer, buffer + 50000, 50000) != 0);
    /* Every value turns up in so many bytes. */
    int seen[256] = {0}, values = 0;
    for (unsigned i = 0; i < sizeof buffer; i++)
        values += !seen[buffer[i]]++;
    printf("%d values\n", values);
    SHOW(write(random, buffer, 10));
    unsigned char *map = mmap(NULL, 10000, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    CHECK(map != MAP_FAILED && map[0] == 0 && map[9999] == 0);
    struct pollfd fds[3] = {{null, POLLIN | POLLOUT, 0}, {zero, POLLIN, 0}, {-1, POLLIN, 0}};
    SHOW(poll(fds, 3, -1));
    printf("%d %d %d\n", fds[0].revents, fds[1].revents, fds[2].revents);
    SHOW(lseek(null, 0, SEEK_END));
    int out = open("/dev/stdout", O_WRONLY);
    SHOW(write(out, "through /dev/stdout\n", 0));
    DIR *dev = opendir("/dev");
    int found = 0;
    for (struct dirent *e; (e = readdir(dev));)
        found += !strcmp(e->d_name, "null") || !strcmp(e->d_name, "zero");
    closedir(dev);
    printf("found %d\n", found);
    return 0;
}
