//! Properties of the parser, whatever a program prints and however its output is cut into pieces.

use proptest::prelude::*;
use workloads::protocol::{Line, MAX_LINE_BYTES, Parser};

/// All lines of an output that arrives in pieces of these lengths (the last one as long as it takes).
fn read(output: &[u8], lengths: &[usize]) -> Vec<String> {
    let mut parser = Parser::new();
    let mut lines = Vec::new();
    let mut rest = output;
    for length in lengths {
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        parser.push(piece, |line| lines.push(format!("{line:?}")));
        rest = after;
    }
    parser.push(rest, |line| lines.push(format!("{line:?}")));
    lines.extend(parser.finish().map(|line| format!("{line:?}")));
    lines
}

/// Something that looks like the protocol, with faults.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => prop::sample::select(vec![
            "ready", "begin", "begin warmup", "end", "sample a ns 1.5", "sample a ns NaN", "sample b b/s 1e400",
            "check 00ff", "check xyz", "sample", "check", "\r", "sample a ns 1\r",
        ]).prop_map(|line| line.as_bytes().to_vec()),
        2 => "(sample|check|begin) [ -~]{0,40}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..60),
        1 => (MAX_LINE_BYTES - 2..MAX_LINE_BYTES + 3).prop_map(|length| vec![b'x'; length]),
    ];
    (prop::collection::vec(line, 0..20), any::<bool>()).prop_map(|(lines, ended)| {
        let mut output = lines.join(&b'\n');
        if ended {
            output.push(b'\n');
        }
        output
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(output in prop::collection::vec(any::<u8>(), 0..5000)) {
        read(&output, &[]);
    }

    #[test]
    fn the_pieces_make_no_difference(output in output(), lengths in prop::collection::vec(0_usize..5000, 0..30)) {
        let whole = read(&output, &[]);
        prop_assert_eq!(&read(&output, &lengths), &whole);
        prop_assert_eq!(&read(&output, &vec![1; output.len()]), &whole);
    }

    #[test]
    fn every_line_is_seen_once(output in output()) {
        let newlines = output.iter().filter(|byte| **byte == b'\n').count();
        let unterminated = usize::from(output.last().is_some_and(|byte| *byte != b'\n'));
        prop_assert_eq!(read(&output, &[]).len(), newlines + unterminated);
    }

    #[test]
    fn a_sample_comes_back_as_it_was_printed(name in "[a-z0-9_.-]{1,64}", value in 0.0..f64::MAX) {
        let mut seen = Vec::new();
        Parser::new().push(format!("sample {name} ns {value}\n").as_bytes(), |line| {
            let Line::Sample { name, unit, value } = line else { panic!("{line:?}") };
            seen.push((name.to_owned(), unit.to_owned(), value));
        });
        prop_assert_eq!(seen, [(name, "ns".to_owned(), value)]);
    }
}
