/* Asks for more memory than a machine of 64 MiB has, in several ways, and goes on working. */
#include "check.h"

int main(void) {
    void *p = mmap(NULL, 1ul << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("mmap %d errno %d\n", p == MAP_FAILED, errno);
    p = malloc(1ul << 30);
    printf("malloc %d errno %d\n", p == NULL, errno);
    p = malloc(SIZE_MAX / 2);
    printf("absurd %d errno %d\n", p == NULL, errno);
    size_t n = 0;
    char *last = NULL;
    for (char *q; (q = malloc(1 << 20)); n++) {
        memset(q, 1, 1 << 20);
        *(char **)q = last;
        last = q;
    }
    printf("%d MiB, errno %d\n", n > 30 && n < 64, errno);
    while (last) {
        char *next = *(char **)last;
        free(last);
        last = next;
    }
    p = malloc(20 << 20);
    printf("after freeing %d\n", p != NULL);
    p = realloc(p, 1ul << 30);
    printf("realloc %d errno %d\n", p == NULL, errno);
    int fd = open("/tmp/f", O_CREAT | O_RDWR, 0600);
    int result = ftruncate(fd, 1l << 40);
    printf("truncate %d errno %d\n", result, errno);
    static char piece[1 << 20];
    long written = 0;
    for (ssize_t w; (w = write(fd, piece, sizeof piece)) > 0; written += w)
        ;
    printf("file %d errno %d\n", written > 10 << 20, errno);
    printf("end\n");
    return 0;
}
