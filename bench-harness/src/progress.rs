//! How far the run is: a bar with the time left on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Positions of the bar: fine enough to move, coarse enough not to draw all the time.
const POSITIONS: u64 = 1_000;
/// Without a terminal: a line not more often than this.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Tells the user how far the run is. On standard error; never from inside a measured window.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    began: Instant,
    last_line: Instant,
    /// Part of the whole that one unit of the current experiment is.
    share: f64,
    done: f64,
}

impl Progress {
    /// A bar on a terminal, lines elsewhere.
    #[must_use]
    pub fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg:9} [{bar:40}] {percent:>3} %  {prefix}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(POSITIONS).with_style(style)
        });
        let now = Instant::now();
        Self { bar, quiet: false, began: now, last_line: now, share: 1.0, done: 0.0 }
    }

    /// Says nothing at all: for tests.
    #[must_use]
    pub fn silent() -> Self {
        let now = Instant::now();
        Self { bar: None, quiet: true, began: now, last_line: now, share: 1.0, done: 0.0 }
    }

    /// The next experiment is this part of the whole.
    pub fn next_share(&mut self, share: f64) {
        self.share = share;
    }

    /// The part of the whole that the current experiment is.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Part `of_experiment` (0 to 1) of the current experiment is done.
    pub fn step(&mut self, what: &'static str, of_experiment: f64) {
        if self.quiet {
            return;
        }
        self.done = (self.done + of_experiment * self.share).min(1.0);
        let left = self.left();
        if let Some(bar) = &self.bar {
            bar.set_message(what);
            bar.set_prefix(left);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1 of 1000")]
            bar.set_position((self.done * 1_000.0) as u64);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.line(&format!("{what}: {:.0} % of the run, {left}", self.done * 100.0));
        }
    }

    /// A line of its own that stays.
    pub fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.println(text),
            // Progress is a courtesy: where it cannot be written, the run goes on.
            None => drop(writeln!(io::stderr().lock(), "{text}")),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn left(&self) -> String {
        if self.done < 0.02 {
            return String::new();
        }
        let elapsed = self.began.elapsed().as_secs_f64();
        format!("about {:.0} s left", elapsed / self.done * (1.0 - self.done))
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_never_passes_the_whole() {
        let mut progress = Progress { quiet: false, last_line: Instant::now(), ..Progress::silent() };
        progress.next_share(0.5);
        for _ in 0..40 {
            progress.step("startup", 0.1);
        }
        assert!((progress.done - 1.0).abs() < 1e-9);
    }
}
