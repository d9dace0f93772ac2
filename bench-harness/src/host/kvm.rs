//! What stands behind `/dev/kvm`, in words. That it exists says little, and results of different kinds are never mixed.

use vm_backend::Virtualisation;

use crate::error::chain;

/// The kind of KVM host, found by making a virtual machine; or why none can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvmKind(Result<Virtualisation, String>);

impl KvmKind {
    /// The name in the recording.
    #[must_use]
    pub fn name(&self) -> String {
        self.0.as_ref().map_or_else(|_| "none".into(), ToString::to_string)
    }

    /// One sentence for `doctor`, without a full stop.
    #[must_use]
    pub fn meaning(&self) -> String {
        let lent = "lent by the hypervisor that this host runs on: every exit from a guest costs several times what \
                    it costs on bare metal";
        match &self.0 {
            Ok(Virtualisation::Vmx) => "hardware virtualisation (VMX) on bare metal, the usual case".into(),
            Ok(Virtualisation::Svm) => "hardware virtualisation (SVM) on bare metal, the usual case".into(),
            Ok(Virtualisation::VmxNested) => format!("hardware virtualisation (VMX) {lent}"),
            Ok(Virtualisation::SvmNested) => format!("hardware virtualisation (SVM) {lent}"),
            Ok(Virtualisation::Pvm) => "page-table based virtualisation without VMX or SVM: guest programs run \
                                        natively, guest kernel code is emulated at about half a microsecond an \
                                        instruction"
                .into(),
            Err(reason) => reason.clone(),
        }
    }
}

/// Finds out.
#[must_use]
pub fn kind() -> KvmKind {
    KvmKind(vm_backend::probe().map_err(|error| chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_kvm_is_named_none_and_keeps_the_reason() {
        let kind = KvmKind(Err("no right".into()));
        assert_eq!((kind.name().as_str(), kind.meaning().as_str()), ("none", "no right"));
        assert_eq!(KvmKind(Ok(Virtualisation::SvmNested)).name(), "svm-nested");
    }
}
