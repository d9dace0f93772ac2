//! What does a program inside see of the host, and what may it do? It is asked in every target, and natively for comparison.

use std::collections::BTreeMap;
use std::fs;

use workloads::protocol::Line;

use super::super::{Bench, Experiment, Place, Stop, overhead};
use crate::record::{Sample, metric};
use crate::target::native::Native;
use crate::target::{Target, TargetKind};
use crate::workload::{Image, Subject};

/// Name of the workload in the recording.
const PROBE: &str = "probe";
/// Files of the host that everybody may read and that differ from host to host, the likelier first.
const FILES: [&str; 3] = ["/etc/machine-id", "/etc/os-release", "/etc/passwd"];
/// Longer ones are no argument for a program.
const LONGEST: usize = 4 << 10;
/// Who sees this part of the host's processes sees them all: they come and go.
const MANY: f64 = 0.5;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Yes,
    No(String),
    Is(String),
}

/// Makes the probes in every target, once: they are facts, not measurements.
pub(super) fn measure(bench: &mut Bench<'_>, image: &Image) -> Result<(), Stop> {
    let subject = Subject::of_real(image, PROBE, &arguments());
    let host = ask(bench, &Native, &subject)?.unwrap_or_default();
    for (order, participant) in (0_u32..).zip(bench.participants) {
        let place = Place::new(Experiment::Surface, &participant.name, PROBE, 0, order);
        let rows = match ask(bench, &*participant.target, &subject)? {
            Ok(answers) => rows(&place, participant.target.kind(), &answers, &host),
            Err(why) => vec![place.failed(metric::PROBE_PREFIX, "reach", why)],
        };
        bench.sink.keep(rows)?;
    }
    Ok(())
}

/// What the program is told of the host: a process, a file, and what is in that.
fn arguments() -> Vec<String> {
    let file = FILES.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        Some((*file, text.trim().to_owned())).filter(|(_, text)| !text.is_empty() && text.len() <= LONGEST)
    });
    let (file, nonce) = file.unwrap_or(("", String::new()));
    vec![PROBE.into(), std::process::id().to_string(), file.to_owned(), nonce]
}

fn ask(
    bench: &mut Bench<'_>,
    target: &dyn Target,
    subject: &Subject,
) -> Result<Result<BTreeMap<String, Answer>, String>, Stop> {
    let seen = match overhead::one_launch(bench, target, subject)? {
        Ok(seen) => seen,
        Err(why) => return Ok(Err(why)),
    };
    let mut answers = BTreeMap::new();
    seen.for_each_line(|_, line| {
        if let Line::Other(text) = line
            && let Some((name, answer)) = std::str::from_utf8(text).ok().and_then(read)
        {
            answers.insert(name, answer);
        }
    });
    Ok(if answers.is_empty() { Err("it made no probe".into()) } else { Ok(answers) })
}

/// `probe NAME yes`, `probe NAME no WHY`, `probe NAME is TEXT`.
fn read(line: &str) -> Option<(String, Answer)> {
    let mut words = line.strip_prefix("probe ")?.splitn(3, ' ');
    let (name, word, text) = (words.next()?, words.next()?, words.next().unwrap_or_default());
    let answer = match word {
        "yes" => Answer::Yes,
        "no" => Answer::No(text.to_owned()),
        "is" => Answer::Is(text.to_owned()),
        _ => return None,
    };
    Some((name.to_owned(), answer))
}

fn rows(
    place: &Place,
    kind: TargetKind,
    answers: &BTreeMap<String, Answer>,
    host: &BTreeMap<String, Answer>,
) -> Vec<Sample> {
    let row = |(name, answer): (&String, &Answer)| {
        let (reach, detail) = judge(name, kind, answer, host.get(name));
        let metric = format!("{}{name}", metric::PROBE_PREFIX);
        Sample { detail, ..place.row(&metric, "reach", 0, f64::from(u8::from(reach))) }
    };
    answers.iter().map(row).collect()
}

/// Whether it reaches the host, and what to say of it.
fn judge(name: &str, kind: TargetKind, answer: &Answer, host: Option<&Answer>) -> (bool, String) {
    let own_kernel = matches!(kind, TargetKind::Microvm | TargetKind::MicrovmLinux);
    // These two name a thing of the host itself; everything else may be done to a kernel of one's own.
    let of_host = matches!(name, "host-process" | "host-file");
    match answer {
        Answer::Yes if own_kernel && !of_host => (false, "yes, of its own kernel".into()),
        Answer::Yes => (true, "yes".into()),
        Answer::No(why) if why.is_empty() => (false, "no".into()),
        Answer::No(why) => (false, format!("no: {why}")),
        Answer::Is(text) => match host {
            Some(Answer::Is(known)) if same(name, text, known) => (true, format!("{text}, the host's")),
            _ => (false, text.clone()),
        },
    }
}

fn same(name: &str, text: &str, known: &str) -> bool {
    if name != "processes" {
        return text == known;
    }
    let number = |text: &str| text.parse::<f64>().ok();
    number(text).zip(number(known)).is_some_and(|(number, all)| number >= MANY * all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_anything_else_is_not() {
        assert_eq!(read("probe mount no EPERM"), Some(("mount".into(), Answer::No("EPERM".into()))));
        assert_eq!(read("probe ptrace yes"), Some(("ptrace".into(), Answer::Yes)));
        assert_eq!(read("probe x is a b c"), Some(("x".into(), Answer::Is("a b c".into()))));
        for line in ["probe", "probe x", "probe x maybe", "other x yes", ""] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn what_a_kernel_of_ones_own_allows_does_not_reach_the_host() {
        let yes = Answer::Yes;
        assert!(judge("mount", TargetKind::Native, &yes, None).0);
        assert_eq!(
            judge("mount", TargetKind::MicrovmLinux, &yes, None),
            (false, "yes, of its own kernel".into())
        );
        assert!(judge("host-file", TargetKind::MicrovmLinux, &yes, None).0);
        let no = Answer::No("EPERM".into());
        assert_eq!(judge("mount", TargetKind::Container, &no, Some(&yes)), (false, "no: EPERM".into()));
    }

    #[test]
    fn facts_reach_the_host_where_they_are_its_own() {
        let is = |text: &str| Answer::Is(text.into());
        let kind = TargetKind::Container;
        assert!(judge("kernel-release", kind, &is("6.1"), Some(&is("6.1"))).0);
        assert!(!judge("kernel-release", kind, &is("6.1"), Some(&is("6.2"))).0);
        assert!(!judge("memory-mib", kind, &is("512"), None).0);
        assert!(judge("processes", kind, &is("90"), Some(&is("100"))).0);
        assert!(!judge("processes", kind, &is("1"), Some(&is("100"))).0);
    }
}
