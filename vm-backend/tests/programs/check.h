/* What all test programs share. A program prints facts; the test compares them with those that Linux gives natively. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* Result of a call, and errno where it failed. */
#define SHOW(expr)                                                                   \
    do {                                                                             \
        errno = 0;                                                                   \
        long shown = (long)(expr);                                                   \
        printf("%s = %ld errno %d\n", #expr, shown, shown == -1 ? errno : 0);        \
    } while (0)

/* Something that must hold, natively as well. */
#define CHECK(expr) printf("%s: %s\n", #expr, (expr) ? "yes" : "NO")
