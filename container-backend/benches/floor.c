/*
 * The floor: the least C that starts a program in the same namespaces as the container, in a root of its own.
 *
 * clone, a private mount tree, the prepared root folder bound onto itself, pivot_root, the old root detached, exec. No
 * proc, no devices, no limits, no capability dropped, no filter, no check of anything. What is in here, every runtime
 * has to do; what a runtime takes beyond it, it takes for what this leaves out.
 *
 * Built by the bench as a shared object and called in the bench's own process, in turn with the container.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct job {
    const char *root;
    const char *program;
    int output;
    int own_root;
    const char *argument;
};

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int child(void *argument) {
    const struct job *job = argument;
    char *argv[] = {(char *)job->program, NULL, NULL}, *envp[] = {NULL};
    if (job->own_root
        && (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount(job->root, job->root, NULL, MS_BIND, NULL)
            || chdir(job->root) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/")))
        _exit(126);
    if (job->output >= 0 && dup2(job->output, 1) < 0) _exit(126);
    argv[1] = (char *)job->argument;
    execve(job->program, argv, envp);
    _exit(127);
}

/*
 * One start: nanoseconds to the program's first byte in *ready, to its end being known in *ended. 0, or an errno.
 * `flags` are those of clone(2); with CLONE_VM | CLONE_VFORK the memory is shared, without it is copied as by fork.
 */
int floor_start(const char *root, const char *program, int flags, int own_root, uint64_t *ready, uint64_t *ended) {
    static char stack[65536] __attribute__((aligned(16)));
    struct job job = {root, program, -1, own_root, NULL};
    int ends[2], status;
    char byte;
    uint64_t start = now();
    if (pipe2(ends, O_CLOEXEC)) return errno;
    job.output = ends[1];
    pid_t pid = clone(child, stack + sizeof stack, flags | SIGCHLD, &job);
    if (pid < 0) return errno;
    close(ends[1]);
    ssize_t n = read(ends[0], &byte, 1);
    *ready = now() - start;
    if (waitpid(pid, &status, 0) != pid) return errno;
    *ended = now() - start;
    close(ends[0]);
    if (n != 1 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) return ECHILD;
    return 0;
}

#ifdef COMMAND
/* The same as a command: floor ROOT PROGRAM [ARGUMENT], in a mount, PID, network, IPC, UTS and cgroup namespace. */
int main(int argc, char **argv) {
    static char stack[65536] __attribute__((aligned(16)));
    if (argc < 3) return 125;
    struct job job = {argv[1], argv[2], -1, 1, argc > 3 ? argv[3] : NULL};
    int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | 0x02000000, status;
    pid_t pid = clone(child, stack + sizeof stack, flags | SIGCHLD, &job);
    if (pid < 0 || waitpid(pid, &status, 0) != pid) return 125;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
#endif
