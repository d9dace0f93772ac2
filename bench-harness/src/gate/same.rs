//! Whether two recordings may be compared at all.

use crate::record::RunInfo;
use crate::warning::Warning;

/// What differs and must not, one clause each.
///
/// A figure that one of them does not know is no difference: older versions recorded less.
pub fn differences(old: &RunInfo, new: &RunInfo) -> Vec<String> {
    let mut found = Vec::new();
    let text = |text: &Option<String>| text.clone();
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let (one, other) = (&old.host, &new.host);
    // The memory of a virtual machine varies by what its firmware took: compared in steps that show.
    let gib = |bytes: Option<u64>| bytes.map(|bytes| format!("{} GiB", (bytes + (1 << 29)) >> 30));
    let facts = [
        ("host", text(&one.hostname), text(&other.hostname)),
        ("CPU", text(&one.cpu_model), text(&other.cpu_model)),
        ("number of CPUs", number(one.cpus_allowed), number(other.cpus_allowed)),
        ("kernel", text(&one.kernel), text(&other.kernel)),
        ("memory", gib(one.memory_bytes), gib(other.memory_bytes)),
        ("kind of KVM", text(&one.kvm), text(&other.kvm)),
        ("workload digest", text(&old.digests.workload), text(&new.digests.workload)),
        ("real workloads digest", text(&old.digests.real_workloads), text(&new.digests.real_workloads)),
        ("guest digest", text(&old.digests.guest), text(&new.digests.guest)),
        ("guest kernel digest", text(&old.digests.kernel), text(&new.digests.kernel)),
    ];
    for (name, old, new) in facts {
        if let (Some(old), Some(new)) = (old, new)
            && old != new
        {
            let (old, new) =
                if name.ends_with("digest") { (short(&old), short(&new)) } else { (&*old, &*new) };
            found.push(format!("the {name} was {old} and is {new}"));
        }
    }
    let design = |info: &RunInfo| info.design.clone();
    if let (Some(one), Some(other)) = (design(old), design(new)) {
        if one.pinned != other.pinned {
            found.push("harness and instances did not have the same CPUs in both (--pin)".into());
        }
        if one.rest_ms != other.rest_ms {
            found.push(format!(
                "before a start the host rested for {} ms and rests for {} ms (--rest)",
                one.rest_ms, other.rest_ms
            ));
        }
        if one.cache != other.cache {
            found.push(format!("the page cache was {} and is {} (--cache)", one.cache, other.cache));
        }
    }
    let debug = |info: &RunInfo| info.warnings.contains(&Warning::DebugBuild);
    if debug(old) != debug(new) {
        found.push("one was made by a debug build, and one was not".into());
    }
    found
}

/// As much of a digest as tells it from another.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Digests, Host};

    #[test]
    fn the_same_host_and_bytes_may_be_compared_and_the_unknown_is_no_difference() {
        let known = RunInfo {
            host: Host { hostname: Some("a".into()), kvm: Some("vmx".into()), ..Host::default() },
            digests: Digests { workload: Some("00".into()), ..Digests::default() },
            ..RunInfo::default()
        };
        assert_eq!(differences(&known, &known), [""; 0]);
        assert_eq!(differences(&RunInfo::default(), &known), [""; 0]);
    }

    #[test]
    fn another_layout_of_the_run_is_a_difference() {
        use crate::pinning::Placement;
        use crate::record::Design;
        let of = |cache: &str, pinned, rest_ms| RunInfo {
            design: Some(Design { cache: cache.into(), pinned, rest_ms, ..Design::default() }),
            ..RunInfo::default()
        };
        let placed = Some(Placement { harness: vec![0], instances: vec![1] });
        let found = differences(&of("warm", None, 0), &of("cold", placed, 10));
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(
            differences(&RunInfo::default(), &of("cold", None, 10)),
            [""; 0],
            "unknown is no difference"
        );
    }

    #[test]
    fn each_difference_is_named_with_both_sides() {
        let of = |name: &str, kvm: &str, digest: &str, warnings: Vec<Warning>| RunInfo {
            host: Host { hostname: Some(name.into()), kvm: Some(kvm.into()), ..Host::default() },
            digests: Digests { workload: Some(digest.into()), ..Digests::default() },
            warnings,
            ..RunInfo::default()
        };
        let found =
            differences(&of("a", "vmx", "00", vec![]), &of("b", "pvm", "11", vec![Warning::DebugBuild]));
        assert_eq!(
            found,
            [
                "the host was a and is b",
                "the kind of KVM was vmx and is pvm",
                "the workload digest was 00 and is 11",
                "one was made by a debug build, and one was not"
            ]
        );
    }
}
