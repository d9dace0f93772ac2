//! The seccomp filter: what the engines' default profiles refuse, as a list of what is refused.
//!
//! The default action is "allow". Since Linux 5.11 the kernel works out, when a filter is installed, which calls it allows
//! whatever their arguments, and does not run it for those at all, so a list of refusals costs a running program next to
//! nothing. But the working out runs the filter once for every call there is, and with a list that is compared one by one
//! (as seccompiler compiles it) this is a fifth of a whole container's start. So the list is compiled to a search tree.

mod json;
mod names;
mod tree;

use libc::sock_filter;

pub use json::ProfileError;
use tree::{Node, Verdict};

/// A filter of one's own.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(crate) filter: Vec<sock_filter>,
}

/// Calls that the C library does not name yet (arch/x86/entry/syscalls/syscall_64.tbl): Linux 6.8, and 6.15.
const STATMOUNT: libc::c_long = 457;
const LISTMOUNT: libc::c_long = 458;
const OPEN_TREE_ATTR: libc::c_long = 467;

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
    LISTMOUNT,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_pivot_root,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    STATMOUNT,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // other processes, tracing, keys
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_fanotify_init,
    libc::SYS_kcmp,
    libc::SYS_process_madvise,
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

/// The namespace flags of clone(2) that the engines refuse without `CAP_SYS_ADMIN`: `CLONE_NEWNS`, `CLONE_NEWCGROUP`,
/// `CLONE_NEWUTS`, `CLONE_NEWIPC`, `CLONE_NEWUSER`, `CLONE_NEWPID`, `CLONE_NEWNET`.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;

/// The values that the engines let personality(2) have: `PER_LINUX`, `PER_LINUX32`, each with and without `UNAME26`, and the
/// one that only asks.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `__X32_SYSCALL_BIT`: calls of the x32 ABI have it in their number and come with the x86-64 architecture.
const X32_BIT: u32 = 0x4000_0000;

/// `AUDIT_ARCH_X86_64` (include/uapi/linux/audit.h).
const ARCH: u32 = 0xc000_003e;

/// Instructions (include/uapi/linux/bpf_common.h): `BPF_LD | BPF_W | BPF_ABS`; `BPF_JMP | BPF_K` with `BPF_JEQ`, `BPF_JGE`,
/// `BPF_JSET`, `BPF_JA`; `BPF_RET | BPF_K`.
mod code {
    pub(super) const LOAD: u16 = 0x20;
    pub(super) const JUMP_EQUAL: u16 = 0x15;
    pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
    pub(super) const JUMP_ANY_BIT: u16 = 0x45;
    pub(super) const JUMP: u16 = 0x05;
    pub(super) const RETURN: u16 = 0x06;
}

/// Offsets in `struct seccomp_data`. The arguments compared here have 32 bits; the lower half comes first.
const NR_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;
const ARG0_OFFSET: u32 = 16;

/// What a filter returns (include/uapi/linux/seccomp.h).
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOT_PERMITTED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// Compiles the filter.
///
/// Another architecture's calls (i386 by `int 0x80`) end the program. Calls of x32 and clone3, whose flags a filter
/// cannot see, fail with ENOSYS, as if the kernel did not have them: the C libraries then use clone(2), whose flags can
/// be seen. Everything else on the list fails with EPERM.
pub(crate) fn compile() -> Vec<sock_filter> {
    let number = |nr: libc::c_long| u32::try_from(nr).unwrap_or(u32::MAX);
    let mut verdicts: Vec<(u32, Verdict)> =
        REFUSED.iter().map(|&nr| (number(nr), Verdict::Return(NOT_PERMITTED))).collect();
    verdicts.push((number(libc::SYS_clone3), Verdict::Return(NO_SUCH_CALL)));
    verdicts.push((number(libc::SYS_clone), Verdict::Check(refuse_bits(NAMESPACE_FLAGS))));
    verdicts.push((number(libc::SYS_personality), Verdict::Check(allow_only(&PERSONALITIES))));
    verdicts.push((number(libc::SYS_socket), Verdict::Check(refuse_value(libc::AF_VSOCK.cast_unsigned()))));
    let mut program = vec![
        instruction(code::LOAD, 0, 0, ARCH_OFFSET),
        instruction(code::JUMP_EQUAL, 1, 0, ARCH),
        instruction(code::RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        instruction(code::LOAD, 0, 0, NR_OFFSET),
    ];
    program.extend(
        Node::new(verdicts, Verdict::Return(ALLOW), (X32_BIT, Verdict::Return(NO_SUCH_CALL))).compile(),
    );
    program
}

/// Refuses a call whose first argument has any of `bits`.
fn refuse_bits(bits: u32) -> Vec<sock_filter> {
    vec![
        instruction(code::LOAD, 0, 0, ARG0_OFFSET),
        instruction(code::JUMP_ANY_BIT, 0, 1, bits),
        instruction(code::RETURN, 0, 0, NOT_PERMITTED),
        instruction(code::RETURN, 0, 0, ALLOW),
    ]
}

/// Refuses a call whose first argument is `value`.
fn refuse_value(value: u32) -> Vec<sock_filter> {
    vec![
        instruction(code::LOAD, 0, 0, ARG0_OFFSET),
        instruction(code::JUMP_EQUAL, 0, 1, value),
        instruction(code::RETURN, 0, 0, NOT_PERMITTED),
        instruction(code::RETURN, 0, 0, ALLOW),
    ]
}

/// Allows a call only with one of `values` as its first argument.
fn allow_only(values: &[u32]) -> Vec<sock_filter> {
    let mut block = vec![instruction(code::LOAD, 0, 0, ARG0_OFFSET)];
    for &value in values {
        block.push(instruction(code::JUMP_EQUAL, 0, 1, value));
        block.push(instruction(code::RETURN, 0, 0, ALLOW));
    }
    block.push(instruction(code::RETURN, 0, 0, NOT_PERMITTED));
    block
}

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, TargetArch,
    };

    use super::*;

    /// `struct seccomp_data` as 32-bit words.
    pub(super) type Data = [u32; 16];

    pub(super) fn data(arch: u32, nr: u32, arg0: u32) -> Data {
        let mut data = [0; 16];
        (data[0], data[1], data[4]) = (nr, arch, arg0);
        data
    }

    /// Runs a filter as the kernel does, for the instructions that occur in filters of this crate and of seccompiler; the
    /// number of instructions that it took is the other result.
    pub(super) fn evaluate(program: &[sock_filter], data: &Data) -> (u32, usize) {
        let (mut at, mut steps, mut accumulator) = (0, 0, 0);
        loop {
            let now = program[at];
            (at, steps) = (at + 1, steps + 1);
            let jump = |taken: bool| usize::from(if taken { now.jt } else { now.jf });
            match now.code {
                code::LOAD => accumulator = data[now.k as usize / 4],
                code::JUMP => at += now.k as usize,
                code::JUMP_EQUAL => at += jump(accumulator == now.k),
                code::JUMP_GREATER_EQUAL => at += jump(accumulator >= now.k),
                code::JUMP_ANY_BIT => at += jump(accumulator & now.k != 0),
                0x25 => at += jump(accumulator > now.k),
                0x54 => accumulator &= now.k,
                code::RETURN => return (now.k, steps),
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// The same list as seccompiler compiles it, one comparison after another.
    fn reference() -> Vec<sock_filter> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|&nr| (nr, vec![])).collect();
        let condition = |op, value: u32| {
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, op, value.into()).expect("a good condition")
        };
        let rule = |conditions| SeccompRule::new(conditions).expect("a good rule");
        let bits = (0..32).map(|bit| 1 << bit).filter(|bit| NAMESPACE_FLAGS & bit != 0);
        let clone = bits.map(|bit| rule(vec![condition(SeccompCmpOp::MaskedEq(bit.into()), bit)]));
        rules.insert(libc::SYS_clone, clone.collect());
        let unknown = PERSONALITIES.map(|value| condition(SeccompCmpOp::Ne, value)).to_vec();
        rules.insert(libc::SYS_personality, vec![rule(unknown)]);
        let vsock = condition(SeccompCmpOp::Eq, libc::AF_VSOCK.cast_unsigned());
        rules.insert(libc::SYS_socket, vec![rule(vec![vsock])]);
        let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::x86_64);
        let program: BpfProgram = filter.expect("a good filter").try_into().expect("it compiles");
        program.iter().map(|i| instruction(i.code, i.jt, i.jf, i.k)).collect()
    }

    #[test]
    fn the_tree_decides_as_seccompilers_list_does() {
        let (tree, list) = (compile(), reference());
        let arguments = [0, 1, 8, 40, 0x2_0000, 0x2_0008, 0x1000_0000, 0x11, 0x7e02_0011, u32::MAX];
        for nr in (0..1024).filter(|&nr| i64::from(nr) != libc::SYS_clone3) {
            for arg0 in arguments {
                let data = data(ARCH, nr, arg0);
                assert_eq!(
                    evaluate(&tree, &data).0,
                    evaluate(&list, &data).0,
                    "call {nr}, argument {arg0:#x}"
                );
            }
        }
    }

    #[test]
    fn clone3_and_x32_do_not_exist_and_another_architecture_is_deadly() {
        let tree = compile();
        let clone3 = u32::try_from(libc::SYS_clone3).expect("a small number");
        for nr in [clone3, X32_BIT, X32_BIT | 39, u32::MAX] {
            assert_eq!(evaluate(&tree, &data(ARCH, nr, 0)).0, NO_SUCH_CALL);
        }
        assert_eq!(evaluate(&tree, &data(0x4000_0003, 1, 0)).0, libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn no_call_takes_more_than_a_few_steps() {
        let tree = compile();
        let most = (0..1024).map(|nr| evaluate(&tree, &data(ARCH, nr, 0)).1).max();
        assert!(most.is_some_and(|most| most <= 24), "{most:?} of {}", tree.len());
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut listed = REFUSED.to_vec();
        listed.sort_unstable();
        listed.dedup();
        assert_eq!(listed.len(), REFUSED.len());
    }
}
