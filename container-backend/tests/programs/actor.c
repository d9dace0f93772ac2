/* The program under test: static, does what its first argument says, and tells in words what came of it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void show(const char *path) {
    char text[8192];
    int fd = open(path, O_RDONLY);
    ssize_t n;
    if (fd < 0) { printf("%s\n", strerror(errno)); return; }
    while ((n = read(fd, text, sizeof text)) > 0) fwrite(text, 1, (size_t)n, stdout);
    close(fd);
}

static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
    DIR *dir = opendir(path);
    struct dirent *entry;
    char *names[4096];
    size_t n = 0;
    if (!dir) { printf("%s\n", strerror(errno)); return; }
    while ((entry = readdir(dir)) && n < 4096)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) names[n++] = strdup(entry->d_name);
    /* The descriptor of the listing itself is not of interest. */
    closedir(dir);
    qsort(names, n, sizeof *names, compare);
    for (size_t i = 0; i < n; i++) printf("%s\n", names[i]);
}

static void say(const char *what, long result) {
    if (result < 0) printf("%s: %s\n", what, strerror(errno));
    else printf("%s: done\n", what);
}

static int count_open(void) {
    int n = 0;
    for (int fd = 0; fd < 4096; fd++) if (fcntl(fd, F_GETFD) >= 0) n++;
    return n;
}

int main(int argc, char **argv) {
    const char *act = argc > 1 ? argv[1] : "ready";
    const char *arg = argc > 2 ? argv[2] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(act, "ready")) { puts("ready"); return 0; }
    if (!strcmp(act, "exit")) return atoi(arg);
    if (!strcmp(act, "signal")) { raise(atoi(arg)); pause(); }
    if (!strcmp(act, "sleep")) { puts("ready"); for (;;) pause(); }
    if (!strcmp(act, "show")) { show(arg); return 0; }
    if (!strcmp(act, "list")) { list(arg); return 0; }
    if (!strcmp(act, "args")) { for (int i = 0; i < argc; i++) puts(argv[i]); return 0; }
    if (!strcmp(act, "env")) { extern char **environ; for (char **e = environ; *e; e++) puts(*e); return 0; }
    if (!strcmp(act, "cat")) { char b[4096]; ssize_t n; while ((n = read(0, b, sizeof b)) > 0) if (write(1, b, (size_t)n) < 0) return 1; return 0; }
    if (!strcmp(act, "open-descriptors")) { printf("%d\n", count_open()); return 0; }
    if (!strcmp(act, "stat")) {
        struct stat st;
        for (int i = 2; i < argc; i++) {
            if (lstat(argv[i], &st)) printf("%s: %s\n", argv[i], strerror(errno));
            else printf("%s: %d:%d %o\n", argv[i], st.st_uid, st.st_gid, st.st_mode & 07777);
        }
        return 0;
    }
    if (!strcmp(act, "links")) {
        for (int i = 2; i < argc; i++) {
            char to[256];
            ssize_t n = readlink(argv[i], to, sizeof to);
            printf("%.*s\n", n < 0 ? 0 : (int)n, to);
        }
        return 0;
    }
    if (!strcmp(act, "who")) {
        char name[65] = "";
        gethostname(name, sizeof name);
        printf("pid %d\nppid %d\nuid %d\ngid %d\nhost %s\nsession %d\n", getpid(), getppid(), getuid(), getgid(), name, getsid(0));
        return 0;
    }
    if (!strcmp(act, "write")) {
        int fd = open(arg, O_WRONLY | O_CREAT, 0644);
        say("open", fd);
        if (fd >= 0) say("write", write(fd, "x", 1));
        return 0;
    }
    if (!strcmp(act, "fill")) {
        int fd = open(arg, O_WRONLY | O_CREAT, 0644);
        static char block[1 << 16];
        long total = 0;
        ssize_t n;
        while ((n = write(fd, block, sizeof block)) > 0) total += n;
        say("write", n);
        printf("%ld\n", total);
        return 0;
    }
    if (!strcmp(act, "refused")) {
        struct timespec now = {0, 0};
        say("mount", mount("tmpfs", "/tmp", "tmpfs", 0, NULL));
        say("umount", umount2("/proc", MNT_DETACH));
        say("unshare", unshare(CLONE_NEWUSER));
        say("setns", setns(0, 0));
        say("clone", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
        say("clone3", syscall(SYS_clone3, NULL, 0));
        say("mknod", mknod("/tmp/node", S_IFCHR | 0666, 0x103));
        say("clock", clock_settime(CLOCK_REALTIME, &now));
        say("module", syscall(SYS_init_module, "", 0, ""));
        say("reboot", syscall(SYS_reboot, 0, 0, 0, 0));
        say("keyctl", syscall(SYS_keyctl, 0, 0, 0, 0, 0));
        say("bpf", syscall(SYS_bpf, 0, 0, 0));
        say("hostname", sethostname("x", 1));
        say("x32", syscall(0x40000000 | 39));
        say("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
        say("sysctl", open("/proc/sys/kernel/hostname", O_WRONLY));
        say("sysrq", open("/proc/sysrq-trigger", O_WRONLY));
        say("program", open("/program", O_WRONLY));
        return 0;
    }
    if (!strcmp(act, "escape")) {
        say("ptrace", ptrace(PTRACE_SEIZE, getppid(), 0, 0));
        say("ptrace-init", ptrace(PTRACE_ATTACH, 1, 0, 0));
        int ns = open("/proc/1/ns/mnt", O_RDONLY);
        say("setns", setns(ns, 0));
        say("old-root", open("/..", O_RDONLY) >= 0 ? access("/../etc/passwd", F_OK) : -1);
        say("init-root", access("/proc/1/root/etc/passwd", F_OK));
        say("init-cwd", access("/proc/1/cwd/../../../etc/passwd", F_OK));
        mkdir("/tmp/jail", 0755);
        int out = open("/", O_RDONLY | O_DIRECTORY);
        say("chroot", chroot("/tmp/jail"));
        say("fchdir", fchdir(out));
        for (int i = 0; i < 64; i++) if (chdir("..")) break;
        say("chroot-out", access("etc/passwd", F_OK));
        return 0;
    }
    if (!strcmp(act, "hog")) {
        for (long mib = 0; mib < atol(arg); mib++) {
            char *page = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (page == MAP_FAILED) { perror("mmap"); return 3; }
            memset(page, 1, 1 << 20);
        }
        puts("had it all");
        return 0;
    }
    if (!strcmp(act, "direct-write") || !strcmp(act, "direct-read")) {
        /* PATH KIB: past the page cache, as far as the file system lets us; how many milliseconds it took. */
        int write_it = !strcmp(act, "direct-write");
        int fd = open(arg, (write_it ? O_WRONLY | O_CREAT : O_RDONLY) | O_DIRECT, 0644);
        struct timespec start, end;
        void *block;
        if (fd < 0 || posix_memalign(&block, 4096, 65536)) { perror("open"); return 1; }
        memset(block, 1, 65536);
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (long kib = 0; kib < atol(argv[3]); kib += 64)
            if ((write_it ? write(fd, block, 65536) : read(fd, block, 65536)) != 65536) { perror(act); return 1; }
        clock_gettime(CLOCK_MONOTONIC, &end);
        printf("%ld\n", (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000);
        return 0;
    }
    if (!strcmp(act, "forks")) {
        int n = 0;
        for (; n < atoi(arg); n++) {
            pid_t pid = fork();
            if (pid < 0) { printf("%s\n", strerror(errno)); break; }
            if (pid == 0) { pause(); _exit(0); }
        }
        printf("%d\n", n);
        return 0;
    }
    if (!strcmp(act, "burn")) {
        struct timespec start, now;
        clock_gettime(CLOCK_MONOTONIC, &start);
        do clock_gettime(CLOCK_MONOTONIC, &now);
        while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < atol(arg));
        return 0;
    }
    if (!strcmp(act, "connect") || !strcmp(act, "serve")) {
        /* connect ADDRESS PORT, serve PORT: one word each way. */
        struct sockaddr_in to = {.sin_family = AF_INET};
        char word[16] = "";
        int s = socket(AF_INET, SOCK_STREAM, 0);
        if (!strcmp(act, "serve")) {
            to.sin_port = htons((unsigned short)atoi(arg));
            if (bind(s, (struct sockaddr *)&to, sizeof to) || listen(s, 1)) { perror("serve"); return 1; }
            puts("ready");
            s = accept(s, NULL, NULL);
            if (read(s, word, 4) < 0 || write(s, "pong", 4) < 0) { perror("serve"); return 1; }
        } else {
            to.sin_port = htons((unsigned short)atoi(argv[3]));
            inet_pton(AF_INET, arg, &to.sin_addr);
            if (connect(s, (struct sockaddr *)&to, sizeof to)) { perror("connect"); return 1; }
            if (write(s, "ping", 4) < 0 || read(s, word, 4) < 0) { perror("connect"); return 1; }
        }
        puts(word);
        return 0;
    }
    if (!strcmp(act, "orphans")) {
        /* Grandchildren that end when their parents are gone; how many are still there after a while? */
        int ends[2], left = 0;
        if (pipe(ends)) return 1;
        for (int n = 0; n < atoi(arg); n++) {
            pid_t child = fork();
            if (child == 0) {
                char byte;
                if (fork() == 0) { close(ends[1]); if (read(ends[0], &byte, 1)) {} }
                _exit(0);
            }
            waitpid(child, NULL, 0);
        }
        close(ends[1]);
        for (int tries = 0; tries < 300; tries++) {
            DIR *proc = opendir("/proc");
            struct dirent *entry;
            for (left = 0; (entry = readdir(proc));)
                if (atoi(entry->d_name) > 1 && atoi(entry->d_name) != getpid()) left++;
            closedir(proc);
            if (!left) break;
            usleep(1000);
        }
        printf("left %d\n", left);
        return 0;
    }
    if (!strcmp(act, "signals")) {
        /* Says which signals come, until SIGTERM does. */
        sigset_t set;
        int number;
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGUSR1);
        sigaddset(&set, SIGHUP);
        sigprocmask(SIG_BLOCK, &set, NULL);
        puts("ready");
        while (!sigwait(&set, &number)) { printf("%d\n", number); if (number == SIGTERM) return 7; }
        return 1;
    }
    if (!strcmp(act, "daemon")) {
        /* A grandchild that outlives its parent, in a session of its own. */
        if (fork() == 0) { setsid(); if (fork() == 0) { puts("ready"); for (;;) pause(); } _exit(0); }
        wait(NULL);
        if (!strcmp(arg, "stay")) for (;;) pause();
        return 0;
    }
    fprintf(stderr, "unknown act %s\n", act);
    return 2;
}
