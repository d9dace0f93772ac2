/* Memory that the program wants in large pages, in use until standard input ends. */
#include "check.h"

int main(void) {
    enum { SIZE = 16 << 20 };
    unsigned char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int refused = p == MAP_FAILED || madvise(p, SIZE, MADV_HUGEPAGE) ? errno : 0;
    printf("%s\n", refused ? strerror(refused) : "advised");
    if (refused)
        return 1;
    memset(p, 1, SIZE);
    fflush(stdout);
    char end;
    return read(0, &end, 1) != 0;
}
