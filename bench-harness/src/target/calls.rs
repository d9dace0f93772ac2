//! Names of system calls, for messages about those that the built-in guest does not serve.

macro_rules! table {
    ($($name:ident => $number:ident),* $(,)?) => {
        const NAMES: &[(i64, &str)] = &[$((libc::$number, stringify!($name))),*];
    };
}

// What static programs are known to ask for: files, processes, threads, sockets, events. A number that is missing
// here is named by its number.
table! {
    open => SYS_open, stat => SYS_stat, lstat => SYS_lstat, select => SYS_select, pipe => SYS_pipe, pipe2 => SYS_pipe2,
    readv => SYS_readv, pread64 => SYS_pread64, pwrite64 => SYS_pwrite64, preadv => SYS_preadv, pwritev => SYS_pwritev,
    access => SYS_access, faccessat => SYS_faccessat, faccessat2 => SYS_faccessat2, statx => SYS_statx,
    statfs => SYS_statfs, fstatfs => SYS_fstatfs, getdents64 => SYS_getdents64, readlinkat => SYS_readlinkat,
    ftruncate => SYS_ftruncate, truncate => SYS_truncate, fallocate => SYS_fallocate, fsync => SYS_fsync,
    fdatasync => SYS_fdatasync, sync => SYS_sync, flock => SYS_flock, rename => SYS_rename, renameat => SYS_renameat,
    renameat2 => SYS_renameat2, mkdir => SYS_mkdir, mkdirat => SYS_mkdirat, rmdir => SYS_rmdir, unlink => SYS_unlink,
    unlinkat => SYS_unlinkat, link => SYS_link, symlink => SYS_symlink, chmod => SYS_chmod, fchmod => SYS_fchmod,
    chown => SYS_chown, fchown => SYS_fchown, utimensat => SYS_utimensat, chdir => SYS_chdir, fchdir => SYS_fchdir,
    umask => SYS_umask, dup2 => SYS_dup2, dup3 => SYS_dup3, sendfile => SYS_sendfile, splice => SYS_splice,
    copy_file_range => SYS_copy_file_range, memfd_create => SYS_memfd_create, inotify_init1 => SYS_inotify_init1,
    socket => SYS_socket, socketpair => SYS_socketpair, bind => SYS_bind, listen => SYS_listen, accept => SYS_accept,
    accept4 => SYS_accept4, connect => SYS_connect, sendto => SYS_sendto, recvfrom => SYS_recvfrom,
    sendmsg => SYS_sendmsg, recvmsg => SYS_recvmsg, shutdown => SYS_shutdown, setsockopt => SYS_setsockopt,
    getsockopt => SYS_getsockopt, getsockname => SYS_getsockname, getpeername => SYS_getpeername,
    epoll_create1 => SYS_epoll_create1, epoll_ctl => SYS_epoll_ctl, epoll_wait => SYS_epoll_wait,
    epoll_pwait => SYS_epoll_pwait, eventfd2 => SYS_eventfd2, timerfd_create => SYS_timerfd_create,
    signalfd4 => SYS_signalfd4, ppoll => SYS_ppoll, pselect6 => SYS_pselect6, io_uring_setup => SYS_io_uring_setup,
    clone => SYS_clone, clone3 => SYS_clone3, fork => SYS_fork, vfork => SYS_vfork, execve => SYS_execve,
    execveat => SYS_execveat, wait4 => SYS_wait4, waitid => SYS_waitid, kill => SYS_kill, tkill => SYS_tkill,
    tgkill => SYS_tgkill, rt_sigtimedwait => SYS_rt_sigtimedwait, rt_sigsuspend => SYS_rt_sigsuspend,
    setitimer => SYS_setitimer, timer_create => SYS_timer_create, alarm => SYS_alarm, pause => SYS_pause,
    setpgid => SYS_setpgid, getpgrp => SYS_getpgrp, setsid => SYS_setsid, getsid => SYS_getsid,
    setuid => SYS_setuid, setgid => SYS_setgid, getgroups => SYS_getgroups, getrusage => SYS_getrusage,
    times => SYS_times, prctl => SYS_prctl, sched_setaffinity => SYS_sched_setaffinity, sched_setscheduler =>
    SYS_sched_setscheduler, getcpu => SYS_getcpu, membarrier => SYS_membarrier, mlock => SYS_mlock,
    mlockall => SYS_mlockall, mincore => SYS_mincore, msync => SYS_msync, shmget => SYS_shmget, ptrace => SYS_ptrace,
    seccomp => SYS_seccomp, bpf => SYS_bpf, mount => SYS_mount, unshare => SYS_unshare, setns => SYS_setns,
    reboot => SYS_reboot, sethostname => SYS_sethostname, getpriority => SYS_getpriority, personality => SYS_personality,
}

/// The call's name, or its number.
pub(super) fn name(number: usize) -> String {
    NAMES
        .iter()
        .find(|(known, _)| usize::try_from(*known) == Ok(number))
        .map_or_else(|| format!("number {number}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_named_or_numbered() {
        assert_eq!(name(435), "clone3");
        assert_eq!(name(9_999), "number 9999");
    }
}
