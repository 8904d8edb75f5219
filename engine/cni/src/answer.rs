//! What a runtime understands: the supported versions, and errors (SPEC.md, section 5).

use serde_json::{Value, json};

const SUPPORTED: &[&str] = &["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The answer to VERSION, in the version that was asked in.
pub fn versions(config: &Value) -> Value {
    let version = config["cniVersion"].as_str().filter(|version| SUPPORTED.contains(version)).unwrap_or("1.1.0");
    json!({ "cniVersion": version, "supportedVersions": SUPPORTED })
}

#[derive(Debug)]
pub struct Failure {
    /// 4 environment, 5 input, 6 configuration, 11 try again later, 50 not available.
    pub code: u32,
    pub message: String,
    pub details: String,
}

impl Failure {
    pub fn new(code: u32, message: &str, details: &str) -> Failure {
        Failure { code, message: message.into(), details: details.into() }
    }

    /// `input` is the configuration, if it can be read, for its version.
    pub fn json(&self, input: &[u8]) -> Value {
        let config: Value = serde_json::from_slice(input).unwrap_or(Value::Null);
        let version = config["cniVersion"].as_str().unwrap_or("1.0.0");
        json!({ "cniVersion": version, "code": self.code, "msg": self.message, "details": self.details })
    }
}
