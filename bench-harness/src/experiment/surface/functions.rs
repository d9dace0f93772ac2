//! Which functions of the host's kernel does an instance reach? Seen by the function tracer of ftrace.
//!
//! In an instance of tracefs of our own, so that nobody else's tracing is disturbed. A guard process takes it away when we
//! are gone, however we go.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::error::chain;
use crate::signals;

/// Where tracefs is mounted, on new and on old systems.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// Of each CPU's ring: what one small run fills, some times over.
const BUFFER_KIB: u32 = 24 << 10;
/// What the names of our instances begin with; the number of a process follows.
const PREFIX: &str = "bench-harness-";

/// Functions by name, and how often each was entered.
pub type Functions = BTreeMap<String, u64>;

/// What was seen of one run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// By all processes of the instance, interrupts left out.
    pub functions: Functions,
    /// Entries that were lost: with any, the functions are those that were seen at least.
    pub lost: u64,
    /// Exit code of the starter.
    pub code: Option<i32>,
}

/// The function tracer, switched on for us and what we start.
#[derive(Debug)]
pub struct Tracer {
    dir: PathBuf,
    /// Waits for the end of its input, then takes the instance away.
    guard: Child,
}

impl Tracer {
    /// Switches the function tracer on, for this process and its children to come.
    ///
    /// # Errors
    /// Why it cannot be used, in words.
    pub fn new() -> Result<Self, String> {
        let root = PLACES
            .iter()
            .map(Path::new)
            .find(|place| place.join("instances").is_dir())
            .ok_or_else(|| format!("tracefs cannot be used: nothing to be read at {}", PLACES[0]))?;
        let tracers = fs::read_to_string(root.join("available_tracers"))
            .map_err(|error| format!("tracefs cannot be used: {}", chain(&error)))?;
        if !tracers.split_whitespace().any(|name| name == "function") {
            return Err("this kernel has no function tracer (CONFIG_FUNCTION_TRACER)".into());
        }
        let dir = root.join("instances").join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| format!("tracefs cannot be used: {}", chain(&error)))?;
        let guard = match guard(&dir) {
            Ok(guard) => guard,
            Err(error) => {
                drop(fs::remove_dir(&dir));
                return Err(format!("cannot start the guard of the tracer: {}", chain(&error)));
            }
        };
        let tracer = Self { dir, guard };
        tracer.configure()?;
        Ok(tracer)
    }

    fn configure(&self) -> Result<(), String> {
        for (file, value) in [
            ("tracing_on", "0"),
            ("buffer_size_kb", &BUFFER_KIB.to_string()),
            ("options/function-fork", "1"),
            ("options/record-tgid", "1"),
            // Process groups are written down only while some event is on; this one is rare.
            ("events/sched/sched_process_fork/enable", "1"),
            ("set_ftrace_pid", &std::process::id().to_string()),
            ("current_tracer", "function"),
        ] {
            self.set(file, value)
                .map_err(|error| format!("the function tracer cannot be used: {file}: {}", chain(&error)))?;
        }
        Ok(())
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.dir.join(file), value)
    }

    /// Runs `command`, which starts one instance and waits for its end; `None` where a signal came to us meanwhile.
    ///
    /// # Errors
    /// The step that failed.
    pub fn watch(&self, command: &mut Command) -> io::Result<Option<Reached>> {
        self.set("trace", "")?;
        self.set("tracing_on", "1")?;
        let mut child = command.spawn()?;
        let status = loop {
            match child.try_wait() {
                Ok(None) if signals::caught().is_some() => {
                    drop(child.kill());
                    drop(child.wait());
                    self.set("tracing_on", "0")?;
                    return Ok(None);
                }
                // Nothing is timed here.
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Ok(Some(status)) => break Ok(status),
                Err(error) => break Err(error),
            }
        };
        self.set("tracing_on", "0")?;
        let trace = BufReader::new(fs::File::open(self.dir.join("trace"))?);
        let mut reached = parse(trace, std::process::id(), child.id())?;
        reached.code = status?.code();
        for entry in fs::read_dir(self.dir.join("per_cpu"))? {
            let stats = fs::read_to_string(entry?.path().join("stats"))?;
            let overrun = stats.lines().find_map(|line| line.strip_prefix("overrun:"));
            reached.lost += overrun.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
        }
        Ok(Some(reached))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        drop(self.set("tracing_on", "0"));
        // The end of its input tells the guard to do its work; when it is gone, so is the instance.
        drop(self.guard.stdin.take());
        drop(self.guard.wait());
    }
}

/// In a process group of its own: the terminal's Ctrl-C is not for it.
fn guard(dir: &Path) -> io::Result<Child> {
    let script = "cat >/dev/null; echo 0 >\"$0/tracing_on\"; echo nop >\"$0/current_tracer\"; rmdir \"$0\"";
    Command::new("/bin/sh")
        .args(["-c", script])
        .arg(dir)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Reads lines such as `  workload-17  ( 17) [001] d.... 12.345678: do_exit <-__x64_sys_exit_group`; those of the harness's threads and
/// of the starter's first one are left out, and what an interrupt did on top of a process. The starter's other threads have been made
/// to set the instance up.
fn parse(lines: impl BufRead, harness: u32, starter: u32) -> io::Result<Reached> {
    let mut reached = Reached::default();
    for line in lines.lines() {
        let line = line?;
        let Some((head, tail)) = line.split_once(": ") else { continue };
        let Some(function) = tail.split(" <-").next().filter(|_| tail.contains(" <-")) else { continue };
        let Some((before, after)) = head.split_once(" [") else { continue };
        let Some((task, group)) = before.rsplit_once('(') else { continue };
        let group = group.trim_end_matches(')').trim().parse().ok();
        let task = task.trim_end().rsplit_once('-').and_then(|(_, number)| number.parse::<u32>().ok());
        // The third letter of the flags says whether an interrupt is served (Documentation/trace/ftrace.rst).
        let flags = after.split_whitespace().nth(1).unwrap_or_default();
        let in_interrupt = flags.as_bytes().get(2).is_some_and(|letter| b"hHsZz".contains(letter));
        if in_interrupt || group.is_none_or(|group: u32| group == harness) || task == Some(starter) {
            continue;
        }
        match reached.functions.get_mut(function) {
            Some(times) => *times += 1,
            None => {
                reached.functions.insert(function.to_owned(), 1);
            }
        }
    }
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_others_and_of_interrupts_are_left_out() {
        let text = "\
# tracer: function
#           TASK-PID     TGID     CPU#  |||||  TIMESTAMP  FUNCTION
        workload-17      (     17) [001] ..... 12.345678: vfs_write <-ksys_write
        workload-17      (     17) [001] ...1. 12.345679: vfs_write <-ksys_write
        workload-17      (     17) [001] d.h1. 12.345680: tick <-timer
   bench-harness-9       (      9) [000] ..... 12.345681: do_fork <-clone
   bench-harness-10      (      9) [000] ..... 12.345681: do_sleep <-nanosleep
   bench-harness-11      (     11) [000] ..... 12.345681: do_exec <-execve
   bench-harness-12      (     11) [000] ..... 12.345681: do_mount <-mount
 a: b [x] <-weird-18     (     18) [000] ..... 12.345682: do_exit <-exit
       <idle>-0          (-------) [000] ..... 12.345683: idle <-cpu
CPU:1 [LOST 5 EVENTS]
";
        let reached = parse(text.as_bytes(), 9, 11).expect("bytes in memory");
        assert_eq!(reached.functions.get("vfs_write"), Some(&2));
        assert_eq!(
            reached.functions.get("do_mount"),
            Some(&1),
            "a thread of the starter is at work for the instance"
        );
        assert_eq!(reached.functions.len(), 2, "{:?}", reached.functions);
    }

    #[test]
    fn the_tracer_sees_what_it_starts_and_leaves_nothing_behind() {
        let tracer = match Tracer::new() {
            Ok(tracer) => tracer,
            Err(reason) => {
                println!("skipped: {reason}");
                return;
            }
        };
        let dir = tracer.dir.clone();
        // The shell is the starter, and what it starts the instance.
        let reached = tracer
            .watch(Command::new("sh").args(["-c", "/bin/true; exit 3"]))
            .expect("it is watched")
            .expect("no signal");
        assert_eq!(reached.code, Some(3));
        assert!(reached.functions.len() > 50, "{:?}", reached.functions);
        drop(tracer);
        assert!(!dir.exists(), "{}", dir.display());
    }
}
