//! `json`: parsing a generated document by the `serde_json` crate, and asking it something.

use core::hint::black_box;
use std::fmt::Write;

use serde_json::Value;
use workload_program::mix::{Random, fold, fold_bytes};
use workload_program::work::{PrepareError, Work, iterate};

const ORDERS: u32 = 400;
const SEED: u64 = 0x0150_4e00;

/// The workload `json`; one operation is one document of some 64 KiB parsed and searched.
pub struct Json {
    document: Vec<u8>,
}

impl Json {
    /// Writes the document.
    ///
    /// # Errors
    ///
    /// None so far; the signature is that of the other workloads.
    pub fn new() -> Result<Self, PrepareError> {
        Ok(Self { document: document() })
    }

    /// Parses the document and finds what customers of one country have ordered; 0 where it is no such document.
    fn query(&self) -> u64 {
        let Ok(document) = serde_json::from_slice::<Value>(black_box(&self.document)) else { return 0 };
        let Some(orders) = document.get("orders").and_then(Value::as_array) else { return 0 };
        let mut sum = 0;
        for order in orders.iter().filter(|order| order["customer"]["country"] == "DE") {
            let items = order["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            let cents: u64 =
                items.iter().filter_map(|item| Some(item["cents"].as_u64()? * item["count"].as_u64()?)).sum();
            sum = fold(fold(sum, order["id"].as_u64().unwrap_or(0)), cents);
            sum = fold_bytes(sum, order["customer"]["name"].as_str().unwrap_or_default().as_bytes());
            sum = fold(sum, order["weight"].as_f64().map_or(0, f64::to_bits));
        }
        sum
    }
}

impl Work for Json {
    fn operations(&self) -> u64 {
        1
    }

    fn repeat(&mut self, iterations: u64) -> u64 {
        iterate(iterations, || self.query())
    }
}

/// Orders with customers and items: nested, with escapes, integers and fractions.
fn document() -> Vec<u8> {
    const COUNTRIES: [&str; 5] = ["DE", "FR", "PL", "US", "JP"];
    const ITEMS: [&str; 6] =
        ["bolt", "nut", "washer \\\"M8\\\"", "screw\\t4x40", "Mutter \\u00d8 8", "hinge"];
    let mut random = Random::new(SEED);
    let mut text = String::from("{\"version\": 1, \"orders\": [");
    for id in 0..ORDERS {
        let comma = if id == 0 { "" } else { "," };
        // Written to memory: it cannot fail.
        write!(
            text,
            "{comma}\n  {{\"id\": {id}, \"weight\": {}.{:03}, \"paid\": {}, \"note\": null, \
             \"customer\": {{\"name\": \"customer {}\", \"country\": \"{}\"}}, \"items\": [",
            random.below(40),
            random.below(1000),
            random.below(2) == 1,
            random.below(500),
            COUNTRIES[random.below(5) as usize],
        )
        .unwrap_or_default();
        for item in 0..1 + random.below(4) {
            let comma = if item == 0 { "" } else { ", " };
            write!(
                text,
                "{comma}{{\"name\": \"{}\", \"count\": {}, \"cents\": {}}}",
                ITEMS[random.below(6) as usize],
                1 + random.below(9),
                random.below(100_000)
            )
            .unwrap_or_default();
        }
        text.push_str("]}");
    }
    text.push_str("\n]}\n");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_sound_and_the_query_finds_a_part_of_it() {
        let work = Json::new().unwrap();
        assert!((50 << 10..100 << 10).contains(&work.document.len()), "{} bytes", work.document.len());
        let document: Value = serde_json::from_slice(&work.document).unwrap();
        let orders = document["orders"].as_array().unwrap();
        let found = orders.iter().filter(|order| order["customer"]["country"] == "DE").count();
        assert_eq!(orders.len(), 400);
        assert!((40..160).contains(&found), "{found}");
        assert_ne!(work.query(), 0);
    }

    #[test]
    fn a_document_that_is_cut_short_comes_to_nothing() {
        let mut work = Json::new().unwrap();
        work.document.pop();
        work.document.pop();
        work.document.pop();
        assert_eq!(work.query(), 0);
    }
}
