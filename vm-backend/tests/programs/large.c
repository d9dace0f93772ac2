/* Memory that the program wants in large pages, in use until standard input ends. */
#include "check.h"

int main(void) {
    enum { SIZE = 16 << 20 };
    unsigned char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    printf("%d\n", madvise(p, SIZE, MADV_HUGEPAGE));
    memset(p, 1, SIZE);
    fflush(stdout);
    char end;
    CHECK(read(0, &end, 1) == 0);
    return 0;
}
