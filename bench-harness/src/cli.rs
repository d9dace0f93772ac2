//! The command line: types for clap, help texts, and nothing that does anything.
//!
//! `run` is a hot path, its whole-command time is a figure of the project. [`parse`] therefore builds only the
//! sub-command that was asked for: clap's description of all of them together costs more than starting a process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use parse::parse;

use crate::container_options::ContainerOptions;
use crate::plan::Profile;
use crate::target::TargetKind;

mod parse;

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  a regression was found (when gating)
    2  wrong usage
    3  the host cannot do what was asked
    4  a target or a workload failed
    5  the measurement was too noisy to judge (when gating)
  130  interrupted (128 + SIGINT; 143 for SIGTERM): what was measured is kept and reported";

const RUN_HELP: &str = "\
Examples:
  bench-harness run --target microvm -- ./hello
  bench-harness run --target container --mem 64 --timeout 5 -- ./server --port 80
  echo 'SELECT 1' | bench-harness run --target microvm --file ./app.db:/data/app.db -- ./query /data/app.db

The program must be a static x86-64 Linux ELF. Standard input, output and error are ours, handed on \
as they are. It gets the same small environment in every target (PATH, HOME, LANG), not ours.

Exit codes: the program's own; besides
  124  --timeout ended it
  125  bench-harness itself failed: wrong usage, an unfit program, or a target that this host cannot run
128+N  signal N ended it (or us)";

const COMPARE_HELP: &str = "\
Examples:
  bench-harness compare
  bench-harness compare --targets native,microvm --experiments startup --profile standard --seed 7
  bench-harness compare --workload-bin ./my-server --out /tmp/mine -- --port 8080
  bench-harness compare --workload-bin ./new --against ./old --max-regression 5
  bench-harness compare --baseline results/before --max-regression 5 --junit gate.xml";

const REPORT_HELP: &str = "\
Example:
  bench-harness report results/20260131T120000Z-myhost";

// Paragraphs are one line each: clap breaks them where the terminal ends.
const GATE_HELP: &str = "\
Examples:
  bench-harness gate results/before results/after
  bench-harness gate before after --junit gate.xml --markdown \"$GITHUB_STEP_SUMMARY\"

A figure regressed when the change is significant (adaptive rank test, after Holm), larger than \
--max-regression, and larger than the smallest effect that the launches on this host can resolve. \
Where the data could not have shown that, the gate says so (5) and how many more launches would. \
Judged are ready, exit, PSS, cgroup and time per operation; phases explain, they do not decide. \
Recordings of different hosts, kinds of KVM, workloads or digests are refused (3).";

const SELFTEST_HELP: &str = "\
Examples:
  bench-harness selftest
  bench-harness selftest --target microvm --real 40 --markdown selftest.md

Ends with 0 where the gate fails at most 5 % of the comparisons of a target with itself and finds at \
least 90 % of the injected 10 %, else with 5: then this host is too noisy for such a gate, or has too \
few launches.";

const LIST_HELP: &str = "\
Example:
  bench-harness list workloads";

const DOCTOR_HELP: &str = "\
Examples:
  bench-harness doctor
  bench-harness doctor --json | jq '.targets'";

/// Compares a bare process, a namespace container and a KVM microVM on this host.
#[derive(Debug, Parser)]
#[command(name = "bench-harness", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure: every target with the same bytes, in turn; leaves CSV, charts and a report
    #[command(after_help = format!("{COMPARE_HELP}\n\n{EXIT_CODES}"))]
    Compare(Box<CompareArgs>),
    /// Run any static program once in a target, as if it had been called directly
    #[command(after_help = RUN_HELP)]
    Run(RunArgs),
    /// Make summary, report and charts again from samples.csv and run.json
    #[command(after_help = format!("{REPORT_HELP}\n\n{EXIT_CODES}"))]
    Report(ReportArgs),
    /// Judge whether anything got worse from one recording to the next
    #[command(after_help = format!("{GATE_HELP}\n\n{EXIT_CODES}"))]
    Gate(GateArgs),
    /// Test the gate on this host: how often it sees what is not there, and how often it finds what is
    #[command(after_help = format!("{SELFTEST_HELP}\n\n{EXIT_CODES}"))]
    Selftest(SelftestArgs),
    /// List what can be chosen
    #[command(after_help = format!("{LIST_HELP}\n\n{EXIT_CODES}"))]
    List(ListArgs),
    /// Say what this host can run, what it cannot and why, and what disturbs measurements
    #[command(after_help = format!("{DOCTOR_HELP}\n\n{EXIT_CODES}"))]
    Doctor(DoctorArgs),
}

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Targets to compare, separated by commas [default: every one that this host can run]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = target_parser())]
    pub targets: Vec<TargetKind>,
    /// Workloads of the overhead experiment, separated by commas; `real` is SQLite and its like, `all` is every one
    /// [default: the small ones]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = workload_parser())]
    pub workloads: Vec<String>,
    /// Experiments, separated by commas; `list experiments` names them [default: startup,memory,overhead]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = experiment_parser())]
    pub experiments: Vec<crate::experiment::Experiment>,
    /// How much is measured: quick ends within a minute, thorough is for publication
    #[arg(long, value_name = "PROFILE", default_value = "quick", value_parser = clap::value_parser!(Profile))]
    pub profile: Profile,
    /// Seed of the order and of the intervals [default: taken from the clock, and recorded]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Folder of the recording; must not hold one yet [default: results/TIME-HOST, in UTC]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Memory of an instance: the virtual machine's size and the container's limit
    #[arg(long, value_name = "MIB", default_value = "512")]
    pub mem: u64,
    /// Longest time that one launch may take, in seconds
    #[arg(long, value_name = "SECS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
    /// Let the host rest for so many milliseconds before each launch of startup, so that what the kernel still does for the instance
    /// before is over
    #[arg(long, value_name = "MS", default_value_t = crate::plan::REST_MS, value_parser = clap::value_parser!(u64).range(..=1000))]
    pub rest: u64,
    /// In startup, also start so many at once, 2 to 64: per instance, p99 and rate
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=64))]
    pub concurrency: Option<u32>,
    /// In density, start up to so many [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub density: Option<u32>,
    /// In density, let the memory of the host in use grow by so much at most [default: a quarter of what is available]
    #[arg(long, value_name = "MIB")]
    pub density_budget: Option<u64>,
    /// Harness and instances on separate cores
    #[arg(long)]
    pub pin: bool,
    /// In startup, whether the program's file is in the page cache when it starts
    #[arg(long, value_name = "HOW", default_value = "warm")]
    pub cache: Cache,
    /// A static program of your own as the workload
    #[arg(long, value_name = "PATH")]
    pub workload_bin: Option<PathBuf>,
    /// The same program from before, to judge --workload-bin against: both start in turn, block by block
    #[arg(long, value_name = "PATH", requires = "workload_bin", conflicts_with = "baseline")]
    pub against: Option<PathBuf>,
    /// What `microvm-linux` boots
    #[command(flatten)]
    pub guest: KernelOptions,
    /// Recording to judge the new one against, as `gate` does
    #[arg(long, value_name = "DIR")]
    pub baseline: Option<PathBuf>,
    /// How to judge
    #[command(flatten)]
    pub gate: GateOptions,
    /// Arguments of --workload-bin
    #[arg(last = true, value_name = "ARGS", requires = "workload_bin")]
    pub args: Vec<OsString>,
}

/// The kernel of microvm-linux, and its machine.
#[derive(Debug, Clone, Default, Args)]
pub struct KernelOptions {
    /// Kernel for microvm-linux, bzImage or vmlinux [default: what scripts/fetch-guest-kernel or
    /// scripts/build-guest-kernel left in ~/.cache/bench-harness/kernels]
    #[arg(long, value_name = "PATH")]
    pub kernel: Option<PathBuf>,
    /// Added to that kernel's command line
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub cmdline_extra: String,
    /// Processors of a microvm-linux machine [default: 1]
    #[arg(long, value_name = "N")]
    pub vcpus: Option<u32>,
}

impl KernelOptions {
    /// As the target takes them.
    #[must_use]
    pub fn target(&self, console: bool) -> crate::target::microvm_linux::Options {
        crate::target::microvm_linux::Options {
            kernel: self.kernel.clone(),
            cmdline_extra: self.cmdline_extra.clone(),
            vcpus: self.vcpus,
            console,
            ..Default::default()
        }
    }
}

/// How a gate judges and where it writes.
#[derive(Debug, Clone, Args)]
pub struct GateOptions {
    /// Largest regression that is allowed, in percent [default: 5]
    #[arg(long, value_name = "PCT", value_parser = percent)]
    pub max_regression: Option<f64>,
    /// Compare even where host, kind of KVM, workload or digests differ
    #[arg(long)]
    pub force: bool,
    /// Write the verdict to this file as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Add the verdict to this file as Markdown, for a job summary
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

impl GateOptions {
    /// Largest regression that is allowed, as a part. The default is a little more than what the placement of code and
    /// stack can do by itself (Mytkowicz et al., ASPLOS 2009).
    #[must_use]
    pub fn allowed(&self) -> f64 {
        self.max_regression.unwrap_or(0.05)
    }

    /// Whether any of them was given.
    #[must_use]
    pub fn any(&self) -> bool {
        self.max_regression.is_some() || self.force || self.junit.is_some() || self.markdown.is_some()
    }
}

/// Options of `gate`.
#[derive(Debug, Args)]
pub struct GateArgs {
    /// Folder of the recording from before
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// Folder of the recording to judge
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// How to judge
    #[command(flatten)]
    pub options: GateOptions,
}

/// Options of `selftest`.
#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// Target to compare with itself
    #[arg(long, value_name = "TARGET", default_value = "native", value_parser = target_parser())]
    pub target: TargetKind,
    /// Launches on each side of a comparison
    #[arg(long, value_name = "N", default_value = "40", value_parser = clap::value_parser!(u32).range(6..=1000))]
    pub launches: u32,
    /// Comparisons of each kind that are measured
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub real: u32,
    /// Let the host rest for so many milliseconds before each launch, as compare does
    #[arg(long, value_name = "MS", default_value_t = crate::plan::REST_MS, value_parser = clap::value_parser!(u64).range(..=1000))]
    pub rest: u64,
    /// Comparisons of each kind that are drawn from the measured ones without a delay
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub simulated: u32,
    /// Seed of the order and of the draws [default: taken from the clock, and printed]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Add the result to this file as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where to run it
    #[arg(long, value_name = "TARGET", value_parser = target_parser())]
    pub target: TargetKind,
    /// Memory of the instance: the virtual machine's size and the container's limit (native has none)
    /// [default: 512 for microvm, no limit for container]
    #[arg(long, value_name = "MIB")]
    pub mem: Option<u64>,
    /// End the program after this many seconds, with exit code 124
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Write the start-up's named phases to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub timings: Option<PathBuf>,
    /// Hand a file of the host to the program, read-only, at this absolute path (container, microvm)
    #[arg(long, value_name = "HOST:GUEST")]
    pub file: Vec<OsString>,
    /// What `microvm-linux` boots
    #[command(flatten)]
    pub guest: KernelOptions,
    /// Print what the kernel of microvm-linux says to standard error; each byte costs an exit
    #[arg(long)]
    pub console: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
    /// What is a container's, and in part microvm-linux's; `None` where none of it is there
    #[arg(skip)]
    pub container: Option<Box<ContainerOptions>>,
}

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folder of the recording
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print the tables as Markdown, for a document, and write nothing
    #[arg(long)]
    pub table: bool,
}

/// Options of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// What to list
    #[arg(value_name = "WHAT")]
    pub what: Listing,
}

/// What `list` can list.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Listing {
    /// Where a program can be run.
    Targets,
    /// The programs that are measured.
    Workloads,
    /// What is measured.
    Experiments,
}

/// State of the page cache before a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cache {
    /// The program's bytes are in memory.
    Warm,
    /// They are not: the program is a file on a disk, evicted before each start.
    Cold,
    /// One and the other in turn, from the same file.
    Both,
}

impl Cache {
    /// As on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
            Self::Both => "both",
        }
    }
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Clap lists what is possible when a value is unknown, and suggests the nearest.
fn target_parser() -> ValueParser {
    use clap::builder::TypedValueParser as _;
    PossibleValuesParser::new(TargetKind::ALL.map(TargetKind::name))
        .try_map(|name| TargetKind::from_name(&name).ok_or("unknown target"))
        .into()
}

fn experiment_parser() -> ValueParser {
    use crate::experiment::Experiment;
    use clap::builder::TypedValueParser as _;
    PossibleValuesParser::new(Experiment::ALL.map(Experiment::name))
        .try_map(|name| Experiment::from_name(&name).ok_or("unknown experiment"))
        .into()
}

fn workload_parser() -> PossibleValuesParser {
    PossibleValuesParser::new(crate::workload::names().into_iter().chain(crate::workload::GROUPS))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| String::from("not a number of seconds"))?;
    if value <= 0.0 {
        return Err("must be more than 0".into());
    }
    Duration::try_from_secs_f64(value).map_err(|error| error.to_string())
}

/// A percentage, as a part.
fn percent(text: &str) -> Result<f64, String> {
    let value: f64 =
        text.trim_end_matches('%').parse().map_err(|_| String::from("not a number of percent"))?;
    // Written so that NaN is refused, too.
    if value > 0.0 && value <= 1_000.0 {
        Ok(value / 100.0)
    } else {
        Err("must be more than 0 and at most 1000".into())
    }
}
