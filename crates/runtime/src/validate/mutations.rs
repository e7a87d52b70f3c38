//! Documents with random changes: whatever is in one, it is taken or refused with its place, and nothing panics.
//!
//! The changes are pseudo-random from fixed seeds, so that a failure can be had again: what it printed last is its seed.

use super::*;
use crate::measure::judge;
use serde_json::{Value, json};
use testkit::Random;

/// A document that has a little of everything: what the fuzz target starts from, too.
fn rich() -> Value {
    serde_json::from_str(include_str!("../../../../fuzz/seeds/config_json/rich.json")).unwrap()
}

fn odd(random: &mut Random) -> Value {
    let words = [
        "",
        "/",
        "..",
        "../../etc",
        "a\0b",
        "relative",
        "/proc/self/ns/mnt",
        "/nonexistent",
        "9999999999999999999",
        "-1",
        "0-",
        "3-1",
        "0-4294967295",
        "1,,2",
        "bind",
        "rshared",
        "ro",
        "idmap",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_TRACE",
        "SCMP_ARCH_ARM",
        "SCMP_CMP_NE",
        "CAP_",
        "RLIMIT_",
        "SCHED_DEADLINE",
        "user",
        "cgroup",
        "c",
        "rwmx",
        "1GB",
        "9.9.9",
        "é\u{10ffff}",
    ];
    match random.below(12) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(i64::MIN),
        5 => json!(1e300),
        6 => json!(random.below(70_000)),
        7 => json!([]),
        8 => json!({}),
        9 => json!("x".repeat(random.below(5_000))),
        _ => json!(words[random.below(words.len())]),
    }
}

/// Changes one place below `value`, each as likely as another on its level.
fn change(value: &mut Value, random: &mut Random) {
    let deeper = random.below(8) > 0;
    match value {
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let key = fields.keys().nth(random.below(fields.len())).unwrap().clone();
            match random.below(12) {
                0 => drop(fields.remove(&key)),
                1 => {
                    let moved = fields.remove(&key).unwrap();
                    fields.insert(odd(random).as_str().unwrap_or("other").to_owned(), moved);
                }
                _ => change(&mut fields[&key], random),
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let index = random.below(items.len());
            match random.below(6) {
                0 => drop(items.remove(index)),
                1 => items.push(items[index].clone()),
                _ => change(&mut items[index], random),
            }
        }
        place => *place = odd(random),
    }
}

#[test]
fn a_changed_document_is_taken_or_refused_with_its_place() {
    assert!(judge(rich().to_string().as_bytes()), "the document itself: {:?}", {
        check(&serde_json::from_value(rich()).unwrap(), Path::new("/")).map_err(|error| error.to_string())
    });
    let mut taken = 0;
    let rounds = 2_500;
    for seed in 1..=rounds {
        let mut random = Random::new(seed);
        let mut document = rich();
        for _ in 0..=random.below(3) {
            change(&mut document, &mut random);
        }
        println!("seed {seed}");
        taken += u64::from(judge(document.to_string().as_bytes()));
    }
    // Both outcomes must be frequent, or the changes are no test.
    assert!(taken > rounds / 20 && taken < rounds / 2, "{taken} of {rounds} were taken");
}

#[test]
fn changed_bytes_are_refused_or_taken() {
    let text = rich().to_string().into_bytes();
    for seed in 1..=1_500 {
        let words = ["{", "}", "[", "]", "\"", ",", ":", "\\", "-", "0", "e"];
        let bytes = Random::new(seed).changed(&[&text], &words);
        println!("seed {seed}");
        judge(&bytes);
    }
}
