/* brk, mmap and their kin. */
#include "check.h"

static int all(const unsigned char *p, size_t n, int value) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != value)
            return 0;
    return 1;
}

static void *anonymous(size_t n, int prot) { return mmap(NULL, n, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

static void the_break(void) {
    unsigned char *start = sbrk(0);
    CHECK(sbrk(100000) == start);
    CHECK(all(start, 100000, 0));
    memset(start, 7, 100000);
    CHECK(sbrk(-90000) == start + 100000);
    CHECK(all(start, 10000, 7));
    CHECK(sbrk(90000) == start + 10000);
    /* The page that the break was in keeps its contents, pages above it were given back. */
    CHECK(all(start + 16384, 100000 - 16384, 0));
    CHECK(brk(start) == 0);
    CHECK(sbrk(0) == start);
    CHECK((long)syscall(SYS_brk, 0) == (long)start);
    CHECK((long)syscall(SYS_brk, 1) == (long)start);
}

static void mappings(void) {
    enum { SIZE = 3 << 20 };
    unsigned char *a = anonymous(SIZE, PROT_READ | PROT_WRITE);
    CHECK(a != MAP_FAILED && all(a, SIZE, 0));
    memset(a, 1, SIZE);
    /* A hole in the middle: the rest stays. */
    SHOW(munmap(a + (1 << 20), 1 << 20));
    CHECK(all(a, 1 << 20, 1) && all(a + (2 << 20), 1 << 20, 1));
    unsigned char *fixed = mmap(a + (1 << 20), 1 << 20, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(fixed == a + (1 << 20) && all(fixed, 1 << 20, 0));
    memset(fixed, 2, 1 << 20);
    /* Over memory in use: zero again, the neighbours untouched. */
    CHECK(mmap(fixed + 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
          fixed + 4096);
    CHECK(all(fixed, 4096, 2) && all(fixed + 4096, 4096, 0) && all(fixed + 8192, 4096, 2));
    SHOW(mmap(fixed, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED);
    CHECK(errno == EEXIST && fixed[0] == 2);
    SHOW(mmap(fixed + 1, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
    CHECK(errno == EINVAL);
    CHECK(madvise(fixed, 1 << 20, MADV_DONTNEED) == 0 && all(fixed, 1 << 20, 0));
    SHOW(madvise(fixed + 1, 4096, MADV_DONTNEED));
    SHOW(madvise(fixed, 4096, MADV_WILLNEED));
    SHOW(madvise(fixed, 1 << 20, MADV_HUGEPAGE));
    SHOW(madvise(fixed + 1, 4096, MADV_HUGEPAGE));
    CHECK(all(fixed, 1 << 20, 0));
    memset(a, 3, SIZE);
    SHOW(munmap(a, SIZE));
    /* What was freed reads as zero when it is handed out again. */
    unsigned char *b = anonymous(SIZE, PROT_READ | PROT_WRITE);
    CHECK(b != MAP_FAILED && all(b, SIZE, 0));
    SHOW(munmap(b, SIZE));
    SHOW(munmap(b + 1, 4096));
    SHOW(munmap(b, 0));
    SHOW(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHECK(errno == EINVAL);
    SHOW(mmap(NULL, 4096, PROT_READ, MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHECK(errno == EINVAL);
    SHOW(mmap(NULL, SIZE_MAX - 100, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    CHECK(errno == ENOMEM);
    unsigned char *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED && all(shared, 8192, 0));
    shared[8191] = 1;
    SHOW(msync(shared, 8192, MS_SYNC));
}

static void remapping(void) {
    enum { SIZE = 1 << 20 };
    unsigned char *a = anonymous(SIZE, PROT_READ | PROT_WRITE);
    unsigned char *wall = anonymous(4096, PROT_READ | PROT_WRITE);
    memset(a, 5, SIZE);
    wall[0] = 9;
    unsigned char *b = mremap(a, SIZE, 5 * SIZE, MREMAP_MAYMOVE);
    CHECK(b != MAP_FAILED && all(b, SIZE, 5) && all(b + SIZE, 4 * SIZE, 0) && wall[0] == 9);
    memset(b, 6, 5 * SIZE);
    CHECK(mremap(b, 5 * SIZE, SIZE, 0) == b && all(b, SIZE, 6));
    /* Grown in place or not, what comes back is zero. */
    b = mremap(b, SIZE, 3 * SIZE, MREMAP_MAYMOVE);
    CHECK(b != MAP_FAILED && all(b, SIZE, 6) && all(b + SIZE, 2 * SIZE, 0));
    CHECK(mremap(b, 3 * SIZE, 0, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(b + 1, SIZE, SIZE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    CHECK(mremap(NULL, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
    SHOW(munmap(b, 3 * SIZE));
}

static void reservations(void) {
    enum { SIZE = 64 << 20 };
    unsigned char *a = anonymous(SIZE, PROT_NONE);
    CHECK(a != MAP_FAILED);
    for (int i = 0; i < 8; i++) {
        unsigned char *part = a + i * (SIZE / 8);
        CHECK(mprotect(part, 65536, PROT_READ | PROT_WRITE) == 0 && all(part, 65536, 0));
        memset(part, i + 1, 65536);
    }
    CHECK(all(a + SIZE / 8, 65536, 2));
    SHOW(mprotect(a, 65536, PROT_READ));
    SHOW(mprotect(a + 1, 4096, PROT_READ));
    SHOW(munmap(a, SIZE));
}

static void allocator(void) {
    unsigned state = 1;
    static struct {
        unsigned char *at;
        size_t size;
        unsigned char value;
    } slots[300];
    int bad = 0;
    for (int i = 0; i < 30000; i++) {
        state = state * 1664525 + 1013904223;
        int s = state >> 8 & 255;
        if (slots[s].at)
            bad += !all(slots[s].at, slots[s].size, slots[s].value);
        free(slots[s].at);
        size_t size = (state >> 16 & 0xfff) << (state >> 29);
        unsigned char *p = size & 1 ? calloc(1, size + 1) : malloc(size + 1);
        if (!p) {
            bad++;
            continue;
        }
        if (size & 1)
            bad += !all(p, size + 1, 0);
        memset(p, i & 0xff, size + 1);
        slots[s].at = p, slots[s].size = size + 1, slots[s].value = i & 0xff;
    }
    printf("allocator: %d bad\n", bad);
    char *grown = NULL;
    for (size_t n = 1; n < 20 << 20; n *= 3) {
        grown = realloc(grown, n);
        grown[n - 1] = 'x';
        grown[n / 2] = 'y';
    }
    free(grown);
}

/* More address ranges than the guest keeps a list of. */
static void many_holes(void) {
    enum { COUNT = 1500 };
    static unsigned char *at[COUNT];
    for (int i = 0; i < COUNT; i++) {
        at[i] = anonymous(4096, PROT_READ | PROT_WRITE);
        at[i][0] = i;
    }
    for (int i = 0; i < COUNT; i += 2)
        munmap(at[i], 4096);
    int bad = 0;
    for (int i = 1; i < COUNT; i += 2)
        bad += at[i][0] != (unsigned char)i;
    for (int i = 0; i < COUNT; i += 2) {
        at[i] = anonymous(4096, PROT_READ | PROT_WRITE);
        bad += at[i] == MAP_FAILED || !all(at[i], 4096, 0);
    }
    for (int i = 0; i < COUNT; i++)
        munmap(at[i], 4096);
    printf("holes: %d bad\n", bad);
}

int main(void) {
    setvbuf(stdout, malloc(1 << 16), _IOFBF, 1 << 16);
#ifdef __GLIBC__
    /* musl's sbrk only tells where the break is. */
    the_break();
#endif
    mappings();
    remapping();
    reservations();
    allocator();
    many_holes();
    return 0;
}
