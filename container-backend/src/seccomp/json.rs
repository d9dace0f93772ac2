//! Profiles in the engines' JSON format (Docker's and Podman's `seccomp.json`), compiled to a filter.
//!
//! The rules of a call are tried in the order of the file; the first whose conditions all hold decides, and the default
//! action where none does. Rules that `includes` and `excludes` reserve for other machines, kernels or capabilities do not
//! count, nor do names that this machine does not have.

use std::collections::BTreeMap;

use libc::sock_filter;
use serde_json::Value;

use super::names::NAMES;
use super::tree::{Node, Verdict};
use super::{
    ALLOW, ARCH, ARCH_OFFSET, ARG0_OFFSET, NO_SUCH_CALL, NR_OFFSET, Profile, X32_BIT, code, instruction,
};
use crate::capabilities::Capabilities;
use crate::kernel;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// It is no JSON.
    #[error("the seccomp profile is no JSON")]
    Json(#[source] serde_json::Error),
    /// Something in it is not as it should be.
    #[error("the seccomp profile has {what} {value}, which is not known")]
    Unknown {
        /// What.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// The kernel takes no more than 4096 instructions.
    #[error("the seccomp profile compiles to {instructions} instructions; the kernel takes 4096")]
    TooLong {
        /// How many it would be.
        instructions: usize,
    },
}

/// `BPF_MAXINSNS`.
const MOST_INSTRUCTIONS: usize = 4096;
/// Instructions beside those of [`code`]: `BPF_JMP | BPF_JGT | BPF_K`, `BPF_ALU | BPF_AND | BPF_K`.
const JUMP_GREATER: u16 = 0x25;
const AND: u16 = 0x54;
/// Arguments of a system call.
const ARGUMENTS: u64 = 6;

impl Profile {
    /// Compiles a profile for instances that are left with `capabilities`, and for the running kernel.
    ///
    /// # Errors
    ///
    /// If it is no JSON, or something in it is not known.
    pub fn from_json(text: &str, capabilities: Capabilities) -> Result<Self, ProfileError> {
        let profile: Value = serde_json::from_str(text).map_err(ProfileError::Json)?;
        let default = action(&profile["defaultAction"], &profile["defaultErrnoRet"])?;
        let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
        for entry in profile["syscalls"].as_array().map(Vec::as_slice).unwrap_or_default() {
            if !applies(entry, capabilities) {
                continue;
            }
            let conditions = entry["args"].as_array().map(Vec::as_slice).unwrap_or_default();
            let conditions = conditions.iter().map(Condition::new).collect::<Result<Vec<_>, _>>()?;
            let value = action(&entry["action"], &entry["errnoRet"])?;
            // Older profiles have a single `name`.
            let names = entry["names"].as_array().map(Vec::as_slice).unwrap_or_default();
            for name in names.iter().chain(entry.get("name")).filter_map(Value::as_str) {
                if let Ok(at) = NAMES.binary_search_by(|(known, _)| (*known).cmp(name)) {
                    let number = NAMES.get(at).map_or(u32::MAX, |entry| entry.1);
                    let rule = Rule { conditions: conditions.clone(), value };
                    rules.entry(number).or_default().push(rule);
                }
            }
        }
        let verdicts = rules.into_iter().map(|(number, rules)| (number, verdict(&rules, default))).collect();
        let mut filter = vec![
            instruction(code::LOAD, 0, 0, ARCH_OFFSET),
            instruction(code::JUMP_EQUAL, 1, 0, ARCH),
            instruction(code::RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
            instruction(code::LOAD, 0, 0, NR_OFFSET),
        ];
        let above = (X32_BIT, Verdict::Return(NO_SUCH_CALL));
        filter.extend(Node::new(verdicts, Verdict::Return(default), above).compile());
        match filter.len() {
            instructions @ ..=MOST_INSTRUCTIONS if instructions > 0 => Ok(Self { filter }),
            instructions => Err(ProfileError::TooLong { instructions }),
        }
    }
}

/// One rule for one call.
#[derive(Debug, Clone)]
struct Rule {
    conditions: Vec<Condition>,
    value: u32,
}

/// A comparison of one argument.
#[derive(Debug, Clone, Copy)]
struct Condition {
    argument: u32,
    comparison: Comparison,
    value: u64,
    /// With [`Comparison::Masked`], `value` is the mask and this the value.
    second: u64,
}

#[derive(Debug, Clone, Copy)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Masked,
}

impl Condition {
    fn new(entry: &Value) -> Result<Self, ProfileError> {
        let unknown = |what, value: &Value| ProfileError::Unknown { what, value: value.to_string() };
        let index = entry["index"].as_u64().filter(|&index| index < ARGUMENTS);
        let index = index.and_then(|index| u32::try_from(index).ok());
        let comparison = match entry["op"].as_str() {
            Some("SCMP_CMP_EQ") => Comparison::Equal,
            Some("SCMP_CMP_NE") => Comparison::NotEqual,
            Some("SCMP_CMP_LT") => Comparison::Less,
            Some("SCMP_CMP_LE") => Comparison::LessOrEqual,
            Some("SCMP_CMP_GT") => Comparison::Greater,
            Some("SCMP_CMP_GE") => Comparison::GreaterOrEqual,
            Some("SCMP_CMP_MASKED_EQ") => Comparison::Masked,
            _ => return Err(unknown("a comparison", &entry["op"])),
        };
        Ok(Self {
            argument: index.ok_or_else(|| unknown("an argument", &entry["index"]))?,
            comparison,
            value: entry["value"].as_u64().ok_or_else(|| unknown("a value", &entry["value"]))?,
            second: entry["valueTwo"].as_u64().unwrap_or(0),
        })
    }

    /// Instructions that come to their end if the condition holds, and jump as [`Target`] says if not.
    fn compile(self) -> Vec<(u16, u32, Target, Target)> {
        use Target::{Fail, Hold, Next};
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let halves = |value: u64| ((value >> 32) as u32, value as u32);
        let (high, low) = halves(self.value);
        let offset = ARG0_OFFSET + 8 * self.argument;
        let load = |offset| (code::LOAD, offset, Next, Next);
        // What decides in the upper half, and in the lower one if the upper ones are equal.
        let ordered = |greater: Target, less: Target, equal_code, equal_yes, equal_no| {
            vec![
                load(offset + 4),
                (JUMP_GREATER, high, greater, Next),
                (code::JUMP_EQUAL, high, Next, less),
                load(offset),
                (equal_code, low, equal_yes, equal_no),
            ]
        };
        match self.comparison {
            Comparison::Equal => vec![
                load(offset + 4),
                (code::JUMP_EQUAL, high, Next, Fail),
                load(offset),
                (code::JUMP_EQUAL, low, Hold, Fail),
            ],
            Comparison::NotEqual => vec![
                load(offset + 4),
                (code::JUMP_EQUAL, high, Next, Hold),
                load(offset),
                (code::JUMP_EQUAL, low, Fail, Hold),
            ],
            Comparison::Masked => {
                let (mask_high, mask_low) = (high, low);
                let (high, low) = halves(self.second);
                vec![
                    load(offset + 4),
                    (AND, mask_high, Next, Next),
                    (code::JUMP_EQUAL, high, Next, Fail),
                    load(offset),
                    (AND, mask_low, Next, Next),
                    (code::JUMP_EQUAL, low, Hold, Fail),
                ]
            }
            Comparison::Greater => ordered(Hold, Fail, JUMP_GREATER, Hold, Fail),
            Comparison::GreaterOrEqual => ordered(Hold, Fail, code::JUMP_GREATER_EQUAL, Hold, Fail),
            Comparison::Less => ordered(Fail, Hold, code::JUMP_GREATER_EQUAL, Fail, Hold),
            Comparison::LessOrEqual => ordered(Fail, Hold, JUMP_GREATER, Fail, Hold),
        }
    }
}

/// Where a jump leads: on, to the end of the condition (it holds), to the end of the rule (it does not).
#[derive(Debug, Clone, Copy)]
enum Target {
    Next,
    Hold,
    Fail,
}

/// What is to be done with a call that has these rules.
fn verdict(rules: &[Rule], default: u32) -> Verdict {
    let mut block = Vec::new();
    for rule in rules {
        if rule.conditions.is_empty() {
            if block.is_empty() {
                return Verdict::Return(rule.value);
            }
            block.push(instruction(code::RETURN, 0, 0, rule.value));
            return Verdict::Check(block);
        }
        block.extend(compile(rule));
    }
    block.push(instruction(code::RETURN, 0, 0, default));
    Verdict::Check(block)
}

/// One rule: returns its value if all conditions hold, and comes to its end if not.
fn compile(rule: &Rule) -> Vec<sock_filter> {
    let parts: Vec<_> = rule.conditions.iter().map(|condition| condition.compile()).collect();
    let whole: usize = parts.iter().map(Vec::len).sum::<usize>() + 1;
    let mut program = Vec::with_capacity(whole);
    let mut end = 0;
    for part in parts {
        end += part.len();
        for (code, k, yes, no) in part {
            let after = program.len() + 1;
            // At most six conditions of six instructions: no jump is longer than a byte.
            let offset = |target| match target {
                Target::Next => 0,
                Target::Hold => u8::try_from(end - after).unwrap_or(u8::MAX),
                Target::Fail => u8::try_from(whole - after).unwrap_or(u8::MAX),
            };
            program.push(instruction(code, offset(yes), offset(no), k));
        }
    }
    program.push(instruction(code::RETURN, 0, 0, rule.value));
    program
}

/// What a filter returns for an action.
fn action(action: &Value, errno: &Value) -> Result<u32, ProfileError> {
    let eperm = u64::from(libc::EPERM.cast_unsigned());
    // The kernel takes at most MAX_ERRNO.
    let errno = u32::try_from(errno.as_u64().unwrap_or(eperm).min(4095)).unwrap_or(0);
    match action.as_str() {
        Some("SCMP_ACT_ALLOW") => Ok(ALLOW),
        Some("SCMP_ACT_ERRNO") => Ok(libc::SECCOMP_RET_ERRNO | errno),
        Some("SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD") => Ok(libc::SECCOMP_RET_KILL_THREAD),
        Some("SCMP_ACT_KILL_PROCESS") => Ok(libc::SECCOMP_RET_KILL_PROCESS),
        Some("SCMP_ACT_TRAP") => Ok(libc::SECCOMP_RET_TRAP),
        Some("SCMP_ACT_LOG") => Ok(libc::SECCOMP_RET_LOG),
        Some("SCMP_ACT_TRACE") => Ok(libc::SECCOMP_RET_TRACE | errno),
        _ => Err(ProfileError::Unknown { what: "an action", value: action.to_string() }),
    }
}

/// Whether a rule is for this machine, this kernel and these capabilities.
fn applies(entry: &Value, capabilities: Capabilities) -> bool {
    let texts = |side: &Value, key: &str| -> Vec<String> {
        let list = side[key].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let has = |name: &String| {
        Capabilities::number(name).is_some_and(|number| capabilities.bits() & 1 << number != 0)
    };
    let is_here = |name: &String| matches!(name.as_str(), "amd64" | "x86_64" | "SCMP_ARCH_X86_64");
    let (includes, excludes) = (&entry["includes"], &entry["excludes"]);
    let arches = texts(includes, "arches");
    texts(includes, "caps").iter().all(has)
        && !texts(excludes, "caps").iter().any(has)
        && (arches.is_empty() || arches.iter().any(is_here))
        && !texts(excludes, "arches").iter().any(is_here)
        && includes["minKernel"].as_str().is_none_or(kernel::is_at_least)
        && !excludes["minKernel"].as_str().is_some_and(kernel::is_at_least)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{data, evaluate};
    use super::*;

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "syscalls": [
            {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 131072, "op": "SCMP_CMP_GE"}]},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]},
             "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["kexec_load"], "action": "SCMP_ACT_KILL_PROCESS", "includes": {"arches": ["arm64"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "includes": {"minKernel": "4.8"}}
        ]
    }"#;

    fn verdict_of(profile: &Profile, name: &str, arg0: u32) -> u32 {
        let at = NAMES.binary_search_by(|(known, _)| (*known).cmp(name)).expect("a known name");
        evaluate(&profile.filter, &data(ARCH, NAMES[at].1, arg0)).0
    }

    #[test]
    fn a_profile_decides_as_its_rules_say() {
        let profile = Profile::from_json(PROFILE, Capabilities::default()).expect("a good profile");
        let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
        for (name, arg0, expected) in [
            ("read", 0, ALLOW),
            ("open", 0, errno(libc::ENOSYS)),
            ("personality", 8, ALLOW),
            ("personality", 9, errno(libc::ENOSYS)),
            ("personality", 0x2_0000, ALLOW),
            ("personality", 0xffff_ffff, ALLOW),
            ("clone", 0x11, ALLOW),
            ("clone", 0x1000_0000, errno(libc::ENOSYS)),
            ("mount", 0, errno(libc::ENOSYS)),
            ("kexec_load", 0, errno(libc::ENOSYS)),
            ("ptrace", 0, errno(libc::EPERM)),
        ] {
            assert_eq!(verdict_of(&profile, name, arg0), expected, "{name} {arg0}");
        }
        let admin = Capabilities::none().changed("SYS_ADMIN").expect("known");
        let profile = Profile::from_json(PROFILE, admin).expect("a good profile");
        assert_eq!(verdict_of(&profile, "mount", 0), ALLOW);
    }

    /// The calls that a profile names, as far as this machine has them.
    fn named(text: &str) -> Vec<&'static str> {
        let profile: Value = serde_json::from_str(text).expect("JSON");
        let rules = profile["syscalls"].as_array().expect("rules");
        let names = rules.iter().flat_map(|rule| rule["names"].as_array().expect("names"));
        let names: Vec<&str> = names.filter_map(Value::as_str).collect();
        NAMES.iter().map(|entry| entry.0).filter(|name| names.contains(name)).collect()
    }

    /// A profile of the shape that Docker's and Podman's have: a shortened list of what is allowed, and every kind of rule.
    const ENGINES: &str = include_str!("../../tests/fixtures/engine-seccomp.json");

    #[test]
    fn the_default_has_the_effect_of_the_engines_profile_on_every_call_that_it_names() {
        let (engines, own) =
            (Profile::from_json(ENGINES, Capabilities::default()).expect("good"), super::super::compile());
        let named = named(ENGINES);
        assert!(named.len() > 200, "{}", named.len());
        let arguments = [0, 1, 2, 8, 16, 40, 0x11, 0x2_0000, 0x2_0008, 0x1000_0000, 0x7e02_0011, u32::MAX];
        for name in named {
            for arg0 in arguments {
                let number = NAMES[NAMES.binary_search_by(|(known, _)| (*known).cmp(name)).expect("known")].1;
                let data = data(ARCH, number, arg0);
                let (theirs, ours) = (evaluate(&engines.filter, &data).0, evaluate(&own, &data).0);
                assert_eq!(ours, theirs, "{name} {arg0:#x}");
            }
        }
    }

    #[test]
    fn an_engines_profile_gives_back_what_a_capability_reserves() {
        let with = |changes: &str| {
            let kept = Capabilities::default().changed(changes).expect("known");
            Profile::from_json(ENGINES, kept).expect("good")
        };
        let (all, none) = (with("+all"), with("-all"));
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
        for name in [
            "mount",
            "unshare",
            "bpf",
            "reboot",
            "init_module",
            "acct",
            "kcmp",
            "iopl",
            "clock_settime",
            "chroot",
        ] {
            assert_eq!(verdict_of(&all, name, 0), ALLOW, "{name}");
            assert_eq!(verdict_of(&none, name, 0), refused, "{name}");
        }
        assert_eq!(verdict_of(&all, "clone3", 0), ALLOW);
        assert_eq!(verdict_of(&none, "clone3", 0), NO_SUCH_CALL);
        assert_eq!(verdict_of(&all, "clone", 0x1000_0000), ALLOW);
        assert_eq!(verdict_of(&none, "clone", 0x1000_0000), refused);
        assert_eq!(verdict_of(&none, "arch_prctl", 0), ALLOW, "a rule of this machine");
    }

    #[test]
    fn the_profile_of_an_engine_that_is_installed_here_compiles() {
        for path in ["/usr/share/containers/seccomp.json", "/etc/containers/seccomp.json"] {
            let Ok(text) = std::fs::read_to_string(path) else { continue };
            let profile = Profile::from_json(&text, Capabilities::default());
            let profile = profile.unwrap_or_else(|error| panic!("{path}: {error}"));
            for name in ["read", "execve", "exit_group", "mmap"] {
                assert_eq!(verdict_of(&profile, name, 0), ALLOW, "{path}: {name}");
            }
            for name in ["bpf", "init_module", "kexec_load", "acct"] {
                assert_ne!(verdict_of(&profile, name, 0), ALLOW, "{path}: {name}");
            }
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in ["", "{}", r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#] {
            assert!(Profile::from_json(text, Capabilities::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_names_are_sorted() {
        assert!(NAMES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(NAMES.contains(&("openat2", 437)));
    }
}
