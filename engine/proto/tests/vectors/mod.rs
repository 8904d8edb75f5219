//! Fields of test/vectors/*.json as the codecs' tests need them.

use serde_json::Value;

/// The frames of a file's text.
pub fn frames(text: &str) -> Vec<Value> {
    let value: Value = serde_json::from_str(text).expect("the vectors are JSON");
    value["frames"].as_array().expect("frames").clone()
}

pub fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hex");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

pub fn u32(value: &Value) -> u32 {
    value.as_u64().expect("a number") as u32
}

/// JSON has no 64 bits: they are decimal text there.
pub fn u64(value: &Value) -> u64 {
    value.as_str().expect("a decimal string").parse().expect("a number")
}
