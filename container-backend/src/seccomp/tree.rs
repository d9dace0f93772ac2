//! A list of calls as a balanced tree of comparisons.

use libc::sock_filter;

use super::{code, instruction};

/// What is to be done with a call.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// Return this.
    Return(u32),
    /// Look at the arguments: instructions that return in every case.
    Check(Vec<sock_filter>),
}

impl Verdict {
    fn is(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Return(a), Self::Return(b)) if a == b)
    }
}

/// Consecutive ranges of call numbers, each with its verdict; a range ends where the next begins.
#[derive(Debug)]
pub(super) struct Node(Vec<(u32, Verdict)>);

impl Node {
    /// The ranges for calls with verdicts of their own, all others having `default`, and from `above.0` on `above.1`.
    pub(super) fn new(mut calls: Vec<(u32, Verdict)>, default: Verdict, above: (u32, Verdict)) -> Self {
        calls.sort_by_key(|call| call.0);
        let mut ranges = vec![(0, default.clone())];
        for (number, verdict) in calls {
            ranges.push((number, verdict));
            ranges.push((number.saturating_add(1), default.clone()));
        }
        ranges.push(above);
        let mut merged: Vec<(u32, Verdict)> = Vec::with_capacity(ranges.len());
        for (start, verdict) in ranges {
            // A range that the next one begins with is empty.
            merged.pop_if(|last| last.0 == start);
            if !merged.last().is_some_and(|last| last.1.is(&verdict)) {
                merged.push((start, verdict));
            }
        }
        Self(merged)
    }

    /// The instructions that find the range of the number in the accumulator.
    pub(super) fn compile(&self) -> Vec<sock_filter> {
        emit(&self.0)
    }
}

fn emit(ranges: &[(u32, Verdict)]) -> Vec<sock_filter> {
    match ranges {
        [] => Vec::new(),
        [(_, Verdict::Return(value))] => vec![instruction(code::RETURN, 0, 0, *value)],
        [(_, Verdict::Check(block))] => block.clone(),
        _ => {
            let (below, above) = ranges.split_at(ranges.len() / 2);
            let start = above.first().map_or(0, |range| range.0);
            let (below, above) = (emit(below), emit(above));
            let mut program = match u8::try_from(below.len()) {
                Ok(over) => vec![instruction(code::JUMP_GREATER_EQUAL, over, 0, start)],
                Err(_) => {
                    let over = u32::try_from(below.len()).unwrap_or(u32::MAX);
                    vec![
                        instruction(code::JUMP_GREATER_EQUAL, 0, 1, start),
                        instruction(code::JUMP, 0, 0, over),
                    ]
                }
            };
            program.extend(below);
            program.extend(above);
            program
        }
    }
}
