//! What stands behind `/dev/kvm` on this host.

use std::arch::x86_64::__cpuid;
use std::fmt;
use std::io;
use std::os::fd::FromRawFd;

use kvm_ioctls::Kvm;

use crate::error::KvmError;

/// Kind of virtualisation that KVM uses here. Results of different kinds are not to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Virtualisation {
    /// Intel VT-x on bare metal.
    Vmx,
    /// AMD-V on bare metal.
    Svm,
    /// Intel VT-x inside a virtual machine: exits cost several times more.
    VmxNested,
    /// AMD-V inside a virtual machine.
    SvmNested,
    /// No hardware virtualisation, page tables shadowed by software: ring 3 runs natively, ring 0 is emulated.
    Pvm,
}

impl fmt::Display for Virtualisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmx => "vmx",
            Self::Svm => "svm",
            Self::VmxNested => "vmx-nested",
            Self::SvmNested => "svm-nested",
            Self::Pvm => "pvm",
        })
    }
}

/// The kind, from the CPU's own feature bits (Intel SDM: CPUID.1:ECX bit 5 "VMX", bit 31 "hypervisor"; AMD APM:
/// CPUID 8000_0001h ECX bit 2 "SVM"). Only meaningful where a machine can be made.
pub fn virtualisation() -> Virtualisation {
    let basic = __cpuid(1).ecx;
    let extended = if __cpuid(0x8000_0000).eax > 0x8000_0000 { __cpuid(0x8000_0001).ecx } else { 0 };
    let nested = basic & 1 << 31 != 0;
    match (basic & 1 << 5 != 0, extended & 1 << 2 != 0, nested) {
        (true, _, false) => Virtualisation::Vmx,
        (true, _, true) => Virtualisation::VmxNested,
        (_, true, false) => Virtualisation::Svm,
        (_, true, true) => Virtualisation::SvmNested,
        _ => Virtualisation::Pvm,
    }
}

/// Opens `/dev/kvm` and checks the version of its interface.
///
/// # Errors
/// As [`KvmError`] says.
pub fn open() -> Result<Kvm, KvmError> {
    let path = c"/dev/kvm";
    // SAFETY: a C string that lives for the whole program.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    if fd < 0 {
        let error = io::Error::last_os_error();
        return Err(match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => KvmError::Missing,
            Some(libc::EACCES | libc::EPERM) => KvmError::Denied,
            _ => KvmError::Open(error),
        });
    }
    // SAFETY: just opened, owned by nobody else.
    let kvm = unsafe { Kvm::from_raw_fd(fd) };
    /// KVM_API_VERSION: 12 since Linux 2.6.22, "applications should refuse to run" with another.
    const API_VERSION: i32 = 12;
    match kvm.get_api_version() {
        API_VERSION => Ok(kvm),
        version => Err(KvmError::Version { version }),
    }
}

/// Makes a machine and says what kind it is.
///
/// # Errors
/// Why this host cannot run virtual machines.
pub fn probe() -> Result<Virtualisation, KvmError> {
    let kvm = open()?;
    kvm.create_vm().map_err(|e| KvmError::CreateVm(e.into()))?;
    Ok(virtualisation())
}
