//! The corpus of the fuzz targets, replayed; and changed at random for a moment.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use vm_backend::fuzz;

type Target = fn(&[u8]);
const TARGETS: [(&str, Target); 4] =
    [("boot_file", fuzz::boot_file), ("block", fuzz::block), ("net", fuzz::net), ("marks", fuzz::marks)];

/// Name and contents of every input of a target.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).expect("the corpus is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).expect("an input"))).collect()
}

#[test]
fn no_input_of_the_corpus_does_harm() {
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        assert!(inputs.len() >= 5, "{name} has {} inputs", inputs.len());
        for (path, bytes) in inputs {
            println!("{}", path.display());
            target(&bytes);
        }
        target(&[]);
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap_or(0) % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        // What sizes, indices and flags break at, as often as anything.
        const EDGES: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, 0x10];
        if self.below(2) == 0 { EDGES[self.below(8)] } else { self.below(256).to_le_bytes()[0] }
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        match self.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, self.byte()),
            2 => {
                // The tail of another.
                bytes.truncate(at);
                bytes.extend(&other[self.below(other.len() + 1)..]);
            }
            _ => {
                for _ in 0..=self.below(8) {
                    let at = self.below(bytes.len());
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = self.byte();
                    }
                }
            }
        }
    }
}

#[test]
fn inputs_near_the_corpus_do_no_harm() {
    const TIME: Duration = Duration::from_secs(2);
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |time| time.as_secs() | 1)
    });
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        let mut random = Random(seed);
        let (begun, mut tried) = (Instant::now(), 0);
        while begun.elapsed() < TIME {
            let mut bytes = inputs[random.below(inputs.len())].1.clone();
            let other = &inputs[random.below(inputs.len())].1;
            for _ in 0..=random.below(4) {
                random.change(&mut bytes, other);
            }
            bytes.truncate(64 << 10);
            tried += 1;
            // So that a panic is not all that is known.
            if std::panic::catch_unwind(|| target(&bytes)).is_err() {
                let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
                fs::write(&kept, &bytes).expect("room for the input");
                panic!("{name}: the input {} does harm (FUZZ_SEED={seed})", kept.display());
            }
        }
        println!("{name}: {tried} inputs, FUZZ_SEED={seed}");
    }
}
