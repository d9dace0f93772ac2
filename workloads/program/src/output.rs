//! What is printed, each time by one write: nothing is kept back from one mark to the next.

use core::fmt::{self, Write};

use crate::sys::{self, WriteFailed};

/// Room for the lines between two marks; they are at most a tenth of it.
const CAPACITY: usize = 2048;

/// Lines that are written together.
pub struct Lines {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl Default for Lines {
    /// No lines yet.
    fn default() -> Self {
        Self { bytes: [0; CAPACITY], length: 0 }
    }
}

impl Lines {
    /// Adds a line with a figure. Rust prints the shortest digits that read back as the same number.
    pub fn sample(&mut self, name: &str, unit: &str, value: f64) {
        self.line(format_args!("sample {name} {unit} {value}"));
    }

    /// Adds any line.
    pub fn line(&mut self, text: fmt::Arguments<'_>) {
        let start = self.length;
        // A line that does not fit is left out whole: half a line could be read as another one.
        if self.write_fmt(text).and_then(|()| self.write_char('\n')).is_err() {
            self.length = start;
        }
    }

    /// Writes the lines to standard output and forgets them.
    ///
    /// # Errors
    ///
    /// [`WriteFailed`] where nobody reads.
    pub fn flush(&mut self) -> Result<(), WriteFailed> {
        let length = core::mem::take(&mut self.length);
        sys::write_all(sys::STDOUT, self.bytes.get(..length).unwrap_or_default())
    }
}

impl Write for Lines {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let room = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// Says on standard error what is wrong.
pub fn complain(what: &dyn fmt::Display) {
    let mut lines = Lines::default();
    lines.line(format_args!("workload: {what}"));
    let text = lines.bytes.get(..lines.length).unwrap_or_default();
    // The exit status says it too, so a standard error that nobody reads loses nothing.
    sys::write_all(sys::STDERR, text).unwrap_or(());
}
