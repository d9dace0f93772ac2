//! The seccomp filter: what the engines' default profiles refuse, as a list of what is refused.
//!
//! Default action "allow": since Linux 5.11 the kernel works out at load time which calls are allowed whatever their
//! arguments, and does not run the filter for those at all. The cost per call is then the same for a list of refusals
//! as for no filter with an empty body.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

/// Calls refused whatever their arguments: those that Docker's and Podman's default profile (containers/common,
/// `seccomp.json`) leave to capabilities which a container does not have.
const REFUSED: &[libc::c_long] = &[
    // kernel and machine
    libc::SYS_acct,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_nfsservctl,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_vhangup,
    // clocks
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    // namespaces and mounts
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // other processes, tracing, keys
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_fanotify_init,
    libc::SYS_kcmp,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    // rings, whose calls pass by every filter
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    // memory policy
    libc::SYS_get_mempolicy,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
];

/// The namespace flags of clone(2) that the engines refuse without `CAP_SYS_ADMIN`.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// `ADDR_NO_RANDOMIZE` and the like: personality(2) may only be 0, 8, 0x20000, 0x20008 or 0xffffffff, as in the engines.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `__X32_SYSCALL_BIT`: calls of the x32 ABI have it in their number and come with the x86-64 architecture.
const X32_BIT: u32 = 0x4000_0000;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_JMP | BPF_JGE | BPF_K`, `BPF_RET | BPF_K`
/// (include/uapi/linux/bpf_common.h).
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Offset of `nr` in `struct seccomp_data`.
const NR_OFFSET: u32 = 0;
/// `SECCOMP_RET_ERRNO`: the errno stands in the lower half.
const RETURN_ERRNO: u32 = 0x0005_0000;

/// Compiles the filter.
///
/// Another architecture's calls (i386 by `int 0x80`) end the program. Calls of x32 and clone3, whose flags a filter
/// cannot see, fail with ENOSYS, as if the kernel did not have them: the C libraries then use clone(2), whose flags can
/// be seen. Everything else on the list fails with EPERM.
///
/// # Errors
///
/// What seccompiler says of the list.
pub(crate) fn compile() -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|&nr| (nr, vec![])).collect();
    let masked = |argument, mask| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), mask)
    };
    // One rule a flag: any of them is refused.
    let mut clone = Vec::new();
    for bit in (0..u64::BITS).map(|bit| 1_u64 << bit).filter(|bit| NAMESPACE_FLAGS & bit != 0) {
        clone.push(SeccompRule::new(vec![masked(0, bit)?])?);
    }
    rules.insert(libc::SYS_clone, clone);
    let not = |value| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value);
    let unknown = PERSONALITIES.into_iter().map(not).collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_personality, vec![SeccompRule::new(unknown)?]);
    let vsock = u64::from(libc::AF_VSOCK.cast_unsigned());
    let is_vsock = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, vsock)?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![is_vsock])?]);

    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::x86_64)?;
    let list: BpfProgram = filter.try_into()?;
    let mut program = prologue();
    program.extend(list);
    Ok(program)
}

/// What a list with one errno cannot say: ENOSYS for x32 and clone3. All jumps of BPF are relative, so the list that
/// follows, which begins with the check of the architecture, is unharmed by what stands before it.
fn prologue() -> BpfProgram {
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    let no_such_call = RETURN_ERRNO | libc::ENOSYS.cast_unsigned();
    vec![
        instruction(LOAD, 0, 0, NR_OFFSET),
        instruction(JUMP_GREATER_EQUAL, 1, 0, X32_BIT),
        instruction(JUMP_EQUAL, 0, 1, clone3),
        instruction(RETURN, 0, 0, no_such_call),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_to_a_size_that_the_kernel_takes() {
        let filter = compile().expect("the list is well formed");
        assert!(filter.len() < 4096, "{}", filter.len());
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut listed = REFUSED.to_vec();
        listed.sort_unstable();
        listed.dedup();
        assert_eq!(listed.len(), REFUSED.len());
    }
}
