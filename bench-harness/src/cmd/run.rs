//! `run`: one program, once, in one target, as if it had been called directly.
//!
//! The hot path: what is done before the spawn is parsing, one look at the program's headers, and two signal
//! dispositions. Its standard streams are ours, inherited, so nothing is copied on the way.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::complain;
use crate::cli::RunArgs;
use crate::clock::now_ns;
use crate::container_options::{ContainerOptions, Network};
use crate::error::{HarnessError, SIGNALED, TIMED_OUT};
use crate::target::microvm_linux::Options;
use crate::target::{self, End, Launch, Program, Stdio, TargetKind};
use crate::{memory_size, program, signals};

/// Runs it and returns the exit code to end with.
///
/// # Errors
/// What kept us from running it.
pub fn run(args: &RunArgs) -> Result<u8, HarnessError> {
    let mem_mib = match (args.mem, args.target) {
        (Some(mib), _) => Some(memory_size::checked(mib)?),
        (None, TargetKind::Microvm | TargetKind::MicrovmLinux) => Some(memory_size::DEFAULT_MIB),
        (None, _) => None,
    };
    if let Some(options) = &args.container {
        fits(options, args.target, args.timeout.is_some())?;
    }
    let inside = args.container.as_ref().is_some_and(|options| options.rootfs.is_some());
    let path = match args.program.first() {
        Some(name) if !inside => {
            let path = find(name);
            program::check(&path, mem_mib)?;
            path
        }
        None if !inside => return Err(HarnessError::Usage("a program is needed after --".into())),
        _ => PathBuf::new(),
    };
    let launch = Launch {
        program: handed_over(&path).map_or(Program::Path(path), Program::Sealed),
        argv: args.program.clone(),
        mem_mib,
        pids: args.container.as_ref().and_then(|options| options.pids),
        files: args.file.iter().map(|pair| file_pair(pair)).collect::<Result<_, _>>()?,
        once: true,
        network: false,
        container: args.container.clone(),
    };
    signals::kill_child_on_interrupt().map_err(HarnessError::Signals)?;
    let failed = |source| HarnessError::Launch { target: args.target.name(), source };

    let prepared = target::with_kernel(args.target, machine(args)).prepare(&launch).map_err(failed)?;
    if let Some(limitation) = prepared.limitation() {
        complain(&format!("warning: {limitation}"));
    }
    let start = now_ns();
    let mut instance = prepared.spawn(Stdio::default()).map_err(failed)?;
    let leader = instance.pids().first().copied().unwrap_or(0);
    signals::guard(leader);
    // What another start would need is not kept for the time of this one, nor is its end to wait for that.
    drop(prepared);
    let mut waited = instance.wait(args.timeout);
    let timed_out = matches!(waited, Ok(None));
    if timed_out {
        instance.kill();
        waited = instance.wait(None);
    }
    signals::release();
    if let Some(signal) = signals::caught() {
        // The handler has killed it; how that looks from the target does not matter.
        return Ok(SIGNALED.wrapping_add(u8::try_from(signal).unwrap_or(0)));
    }

    let end = waited.map_err(failed)?;
    if let (Some(file), Some(end)) = (&args.timings, &end) {
        write_timings(file, args.target, start, instance.phases(start), end)?;
    }
    if timed_out {
        let limit = args.timeout.unwrap_or_default().as_secs_f64();
        complain(&format!("the program was still running after {limit} s and was ended (--timeout)"));
        return Ok(TIMED_OUT);
    }
    let Some(end) = end else { return Ok(TIMED_OUT) };
    for note in &end.notes {
        complain(note);
    }
    Ok(end.status.code())
}

/// Whether the target has these options, and what they name is there.
fn fits(options: &ContainerOptions, target: TargetKind, timeout: bool) -> Result<(), HarnessError> {
    let usage = |text: String| Err(HarnessError::Usage(text));
    match (target, options.of_machines_alone()) {
        (TargetKind::Container, Some(why)) => return usage(why.to_owned()),
        (TargetKind::Container, None) if options.detach && timeout => {
            return usage("--detach goes without --timeout: nobody stays to end it".to_owned());
        }
        (TargetKind::Container, None) => {}
        (TargetKind::MicrovmLinux, _) if options.fits_a_machine() => {}
        (TargetKind::MicrovmLinux, _) => {
            return usage(format!(
                "{target} does not have the options of the target container, but for --rootfs, --env, --disk, and \
                 --network none or tap"
            ));
        }
        _ => {
            return usage(format!(
                "{target} does not have the options of the target container, nor --disk or --network"
            ));
        }
    }
    for disk in &options.disk {
        let meta = fs::metadata(&disk.file);
        let meta =
            meta.map_err(|source| HarnessError::File { action: "read", path: disk.file.clone(), source })?;
        if !meta.is_file() {
            return usage(format!("--disk {}: it is not a regular file", disk.file.display()));
        }
    }
    Ok(())
}

/// The machine of microvm-linux.
fn machine(args: &RunArgs) -> Options {
    let mut options = args.guest.target(args.console);
    if let Some(given) = &args.container {
        options.disks = given.disk.iter().map(|disk| (disk.file.clone(), disk.read_only)).collect();
        options.network = given.network == Some(Network::Tap);
    }
    options
}

/// A program that whoever started us has open and handed on as `/proc/self/fd/N`. It may be one without a name, in memory,
/// which no path leads to.
fn handed_over(path: &Path) -> Option<Arc<OwnedFd>> {
    path.strip_prefix("/proc/self/fd").ok()?;
    fs::File::open(path).ok().map(|file| Arc::new(file.into()))
}

/// A name without a slash is looked for as a shell would: along PATH; else it is a path.
///
/// What is not found is returned as it is: the check then says that it does not exist.
fn find(name: &OsStr) -> PathBuf {
    if name.as_bytes().contains(&b'/') || name.is_empty() {
        return name.into();
    }
    std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()))
        .unwrap_or_else(|| name.into())
}

fn file_pair(pair: &OsStr) -> Result<(PathBuf, PathBuf), HarnessError> {
    let bytes = pair.as_bytes();
    let usage = |why| HarnessError::Usage(format!("--file {}: {why}", pair.display()));
    let colon = bytes.iter().rposition(|&byte| byte == b':').ok_or_else(|| usage("HOST:GUEST is needed"))?;
    let (host, guest) =
        (Path::new(OsStr::from_bytes(&bytes[..colon])), Path::new(OsStr::from_bytes(&bytes[colon + 1..])));
    if !guest.is_absolute() {
        return Err(usage("the path for the program must begin with /"));
    }
    match fs::metadata(host) {
        Ok(meta) if meta.is_file() => Ok((host.to_owned(), guest.to_owned())),
        Ok(_) => Err(usage("it is not a regular file")),
        Err(source) => Err(HarnessError::File { action: "read", path: host.to_owned(), source }),
    }
}

/// The file of `--timings`: the same shape in every target, so that two of them can be laid side by side.
#[derive(Serialize)]
struct Timings {
    target: &'static str,
    /// Reading of CLOCK_MONOTONIC immediately before the target was asked to start.
    start_ns: u64,
    /// Consecutive; each begins where the one before it ended, the first at `start_ns`.
    phases: Vec<Phase>,
    /// From start to the instance being gone.
    exit_ns: u64,
}

#[derive(Serialize)]
struct Phase {
    name: &'static str,
    ns: u64,
}

fn write_timings(
    file: &Path,
    target: TargetKind,
    start: u64,
    phases: Vec<(&'static str, u64)>,
    end: &End,
) -> Result<(), HarnessError> {
    let timings = Timings {
        target: target.name(),
        start_ns: start,
        phases: phases.into_iter().map(|(name, ns)| Phase { name, ns }).collect(),
        exit_ns: end.gone_ns.saturating_sub(start),
    };
    let cannot = |source| HarnessError::File { action: "write", path: file.to_owned(), source };
    let mut text = serde_json::to_string_pretty(&timings).map_err(|error| cannot(error.into()))?;
    text.push('\n');
    fs::write(file, text).map_err(cannot)
}
