//! The lines that a workload prints, and a parser for bytes that arrive in pieces.
//!
//! | line | meaning |
//! | --- | --- |
//! | `ready` | the first thing the program does |
//! | `begin` | a repetition that counts begins |
//! | `begin warmup` | a repetition begins that warms up and does not count |
//! | `end` | it has ended |
//! | `sample NAME UNIT VALUE` | a figure of the repetition that ended last, or of the run where there is none |
//! | `check HEX` | the checksum of the repetition that ended last |
//!
//! Any other line is no error: the program may be one that knows nothing of this protocol. A line that begins
//! like a sample or a check and is none is [`Line::Malformed`].

/// Longest line that is looked at, without its end. A program may print lines of any length: of a longer one
/// no more than this is ever kept.
pub const MAX_LINE_BYTES: usize = 4096;
/// Longest name of a sample.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest unit of a sample.
pub const MAX_UNIT_BYTES: usize = 16;
/// Longest checksum in digits: 512 bits.
pub const MAX_CHECK_DIGITS: usize = 128;

/// One line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Line<'a> {
    /// `ready`
    Ready,
    /// `begin` or `begin warmup`
    Begin {
        /// Whether the repetition only warms up.
        warmup: bool,
    },
    /// `end`
    End,
    /// `sample NAME UNIT VALUE`
    Sample {
        /// Letters, digits, `_`, `-` and `.`.
        name: &'a str,
        /// Printable ASCII without blanks, commas and quotes.
        unit: &'a str,
        /// Finite and not negative.
        value: f64,
    },
    /// `check HEX`: the digits, in lower case.
    Check(&'a str),
    /// A sample or a check that is not well formed.
    Malformed {
        /// The line.
        text: &'a [u8],
        /// What is wrong with it.
        reason: Malformed,
    },
    /// Any other line.
    Other(&'a [u8]),
    /// A line longer than [`MAX_LINE_BYTES`], of which only the length is known.
    TooLong {
        /// Its length without its end.
        bytes: u64,
    },
    /// The output ended in the middle of this line. It is not interpreted: a figure cut short is a figure, a
    /// wrong one.
    Unterminated(&'a [u8]),
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Too few or too many words, or more than one blank between two.
    #[error("a sample is the word `sample`, a name, a unit and a value, with one blank between each")]
    SampleShape,
    /// See [`Line::Sample::name`].
    #[error("a sample's name is 1 to 64 letters, digits, `_`, `-` and `.`")]
    Name,
    /// See [`Line::Sample::unit`].
    #[error("a sample's unit is 1 to 16 printable ASCII characters without blanks, commas and quotes")]
    Unit,
    /// See [`Line::Sample::value`].
    #[error("a sample's value is a decimal number, finite and not negative")]
    Value,
    /// See [`Line::Check`].
    #[error("a check is the word `check` and 1 to 128 hexadecimal digits in lower case")]
    Check,
}

/// Puts lines together from pieces and interprets them. Its memory is bounded, whatever arrives.
#[derive(Debug, Default)]
pub struct Parser {
    /// The beginning of a line whose end has not arrived.
    partial: Vec<u8>,
    /// Bytes of that line beyond what `partial` holds.
    dropped: u64,
}

impl Parser {
    /// A parser at the beginning of the output.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and gives each line that they complete to `sink`.
    ///
    /// How the output is cut into pieces makes no difference to the lines.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Line<'_>)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) =
                (rest.get(..end).unwrap_or_default(), rest.get(end + 1..).unwrap_or_default());
            if self.partial.is_empty() && line.len() <= MAX_LINE_BYTES {
                sink(interpret(line));
            } else {
                self.keep(line);
                sink(self.completed(interpret));
                self.partial.clear();
                self.dropped = 0;
            }
            rest = after;
        }
        self.keep(rest);
    }

    /// The output has ended: the last line, where its end is missing.
    pub fn finish(&self) -> Option<Line<'_>> {
        (!self.partial.is_empty()).then(|| self.completed(Line::Unterminated))
    }

    fn completed<'a>(&'a self, interpret: impl FnOnce(&'a [u8]) -> Line<'a>) -> Line<'a> {
        match self.dropped {
            0 => interpret(&self.partial),
            dropped => Line::TooLong { bytes: dropped.saturating_add(self.partial.len() as u64) },
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES - self.partial.len();
        let (kept, dropped) = bytes.split_at(room.min(bytes.len()));
        self.partial.extend_from_slice(kept);
        self.dropped = self.dropped.saturating_add(dropped.len() as u64);
    }
}

/// What a line without its end means. A carriage return before the end is ignored: serial consoles add one.
fn interpret(line: &[u8]) -> Line<'_> {
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    match text {
        b"ready" => return Line::Ready,
        b"begin" => return Line::Begin { warmup: false },
        b"begin warmup" => return Line::Begin { warmup: true },
        b"end" => return Line::End,
        _ => {}
    }
    let parsed = if let Some(words) = text.strip_prefix(b"sample ") {
        sample(words)
    } else if let Some(digits) = text.strip_prefix(b"check ") {
        check(digits)
    } else {
        return Line::Other(line);
    };
    parsed.unwrap_or_else(|reason| Line::Malformed { text: line, reason })
}

fn sample(words: &[u8]) -> Result<Line<'_>, Malformed> {
    let mut words = words.split(|byte| *byte == b' ');
    let (Some(name), Some(unit), Some(value), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed::SampleShape);
    };
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let of_unit = |byte: &u8| byte.is_ascii_graphic() && !b",\"'".contains(byte);
    let name = word(name, MAX_NAME_BYTES, of_name).ok_or(Malformed::Name)?;
    let unit = word(unit, MAX_UNIT_BYTES, of_unit).ok_or(Malformed::Unit)?;
    let value = number(value).ok_or(Malformed::Value)?;
    Ok(Line::Sample { name, unit, value })
}

fn check(digits: &[u8]) -> Result<Line<'_>, Malformed> {
    let of_check = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    word(digits, MAX_CHECK_DIGITS, of_check).map(Line::Check).ok_or(Malformed::Check)
}

fn word(bytes: &[u8], longest: usize, allowed: impl Fn(&u8) -> bool) -> Option<&str> {
    let well_formed = (1..=longest).contains(&bytes.len()) && bytes.iter().all(allowed);
    well_formed.then(|| core::str::from_utf8(bytes).ok()).flatten()
}

/// `digits[.digits][e[+|-]digits]`. The standard library's parser is laxer: it also takes `inf`, `NaN`, `.5`,
/// `5.` and signs.
fn number(bytes: &[u8]) -> Option<f64> {
    let digits = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    let split = |bytes: &'_ [u8], at: fn(&u8) -> bool| bytes.iter().position(at);

    let (mantissa, exponent) = match split(bytes, |byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (bytes.get(..at)?, Some(bytes.get(at + 1..)?)),
        None => (bytes, None),
    };
    let (whole, fraction) = match split(mantissa, |byte| *byte == b'.') {
        Some(at) => (mantissa.get(..at)?, Some(mantissa.get(at + 1..)?)),
        None => (mantissa, None),
    };
    let exponent =
        exponent.map(|digits| digits.strip_prefix(b"+").or(digits.strip_prefix(b"-")).unwrap_or(digits));
    if !digits(whole) || !fraction.is_none_or(digits) || !exponent.is_none_or(digits) {
        return None;
    }
    // Well formed and still infinite: 1e999.
    core::str::from_utf8(bytes).ok()?.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(output: &str) -> Vec<String> {
        let mut parser = Parser::new();
        let mut lines = Vec::new();
        parser.push(output.as_bytes(), |line| lines.push(format!("{line:?}")));
        lines.extend(parser.finish().map(|line| format!("{line:?}")));
        lines
    }

    #[test]
    fn a_whole_run_is_read() {
        let output = "ready\nbegin warmup\nend\nbegin\nend\nsample time_per_op ns 12.5\ncheck 00ff\nhello\n";
        assert_eq!(
            lines(output),
            [
                "Ready",
                "Begin { warmup: true }",
                "End",
                "Begin { warmup: false }",
                "End",
                r#"Sample { name: "time_per_op", unit: "ns", value: 12.5 }"#,
                r#"Check("00ff")"#,
                &format!("{:?}", Line::Other(b"hello")),
            ]
        );
    }

    #[test]
    fn a_carriage_return_before_the_end_is_ignored() {
        assert_eq!(interpret(b"ready\r"), Line::Ready);
        assert_eq!(interpret(b"check 0a\r"), Line::Check("0a"));
        assert_eq!(interpret(b"other\r"), Line::Other(b"other\r"));
    }

    #[test]
    fn marks_with_anything_else_on_the_line_are_other_lines() {
        for line in
            ["ready ", " ready", "Ready", "begin warm", "begin  warmup", "end.", "", "samples", "checked"]
        {
            assert_eq!(interpret(line.as_bytes()), Line::Other(line.as_bytes()), "{line:?}");
        }
    }

    #[test]
    fn values_are_decimal_finite_and_not_negative() {
        for (text, value) in [("0", 0.0), ("12.50", 12.5), ("1e3", 1000.0), ("2.5E-1", 0.25), ("1e+2", 100.0)]
        {
            assert_eq!(number(text.as_bytes()), Some(value), "{text}");
        }
        for text in
            ["", "-1", "+1", "-0", "NaN", "nan", "inf", "infinity", "1e999", ".5", "5.", "1e", "1e+", "1e1.0"]
        {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
        for text in ["0x10", "1_000", "1,5", " 1", "1 ", "1e1e1", "1.2.3", "\u{663}"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn each_fault_of_a_line_has_its_reason() {
        for (line, expected) in [
            ("sample a ns", Malformed::SampleShape),
            ("sample a ns 1 2", Malformed::SampleShape),
            ("sample a  1", Malformed::Unit),
            ("sample  ns 1", Malformed::Name),
            ("sample a,b ns 1", Malformed::Name),
            ("sample a n\"s 1", Malformed::Unit),
            ("sample a ns x", Malformed::Value),
            ("check ", Malformed::Check),
            ("check 0G", Malformed::Check),
            ("check FF", Malformed::Check),
        ] {
            let Line::Malformed { text, reason } = interpret(line.as_bytes()) else { panic!("{line}") };
            assert_eq!((text, reason), (line.as_bytes(), expected));
        }
        let long = format!("check {}", "0".repeat(MAX_CHECK_DIGITS + 1));
        assert!(matches!(interpret(long.as_bytes()), Line::Malformed { reason: Malformed::Check, .. }));
    }

    #[test]
    fn a_line_cut_short_by_the_end_is_not_interpreted() {
        let cut = format!("{:?}", Line::Unterminated(b"sample t ns 12"));
        assert_eq!(lines("ready\nsample t ns 12"), ["Ready".to_owned(), cut]);
        assert_eq!(lines("ready\n"), ["Ready"]);
    }

    #[test]
    fn a_line_of_100_mb_takes_no_memory_and_the_next_one_is_read() {
        let mut parser = Parser::new();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            parser.push(&piece, |line| panic!("{line:?}"));
            assert!(parser.partial.capacity() <= 2 * MAX_LINE_BYTES);
        }
        assert_eq!(parser.finish(), Some(Line::TooLong { bytes: 100 << 20 }));
        let mut seen = 0;
        parser.push(b"\nready\n", |line| {
            let expected = [Line::TooLong { bytes: 100 << 20 }, Line::Ready];
            assert_eq!(line, expected[seen]);
            seen += 1;
        });
        assert_eq!(seen, 2);
    }

    #[test]
    fn the_longest_line_is_read_and_one_byte_more_is_too_long() {
        for (length, too_long) in [(MAX_LINE_BYTES, false), (MAX_LINE_BYTES + 1, true)] {
            let mut line = vec![b'x'; length];
            line.push(b'\n');
            for cut in [0, 1, MAX_LINE_BYTES, line.len() - 1, line.len()] {
                let mut parser = Parser::new();
                let mut results = Vec::new();
                let mut sink = |line: Line<'_>| results.push(matches!(line, Line::TooLong { .. }));
                parser.push(&line[..cut], &mut sink);
                parser.push(&line[cut..], &mut sink);
                assert_eq!(results, [too_long], "cut at {cut} of {length}");
            }
        }
    }
}
