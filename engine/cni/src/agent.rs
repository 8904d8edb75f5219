//! Asking the agent: a JSON line there, a JSON line back.

use crate::answer::Failure;
use crate::call::Call;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const LONGEST: usize = 1 << 20;

/// What to print and the exit code; or why the agent could not be asked.
pub fn ask(call: &Call) -> Result<(Value, u8), String> {
    let until = Instant::now() + PATIENCE;
    let mut stream = UnixStream::connect(call.socket()).map_err(|error| error.to_string())?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    let mut line = call.json().to_string();
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !answer.contains(&b'\n') {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || answer.len() > LONGEST {
            return Err("no answer within 60 s".into());
        }
        stream.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
        match stream.read(&mut part) {
            Ok(0) => return Err("the agent closed the connection without an answer".into()),
            Ok(length) => answer.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let answer: Value = serde_json::from_slice(&answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let code = answer["exitCode"].as_u64().and_then(|code| u8::try_from(code).ok());
    let code = code.ok_or("the answer has no exitCode")?;
    Ok((answer["output"].clone(), code))
}

/// The error for a call that needs an agent and found none.
pub fn away(code: u32, call: &Call, reason: &str) -> Failure {
    Failure::new(
        code,
        &format!("the agent does not answer at {}: {reason}", call.socket().display()),
        "is the agent's pod on this node running? kubectl -n kube-system get pods -l k8s-app=cilium -o wide; kubelet tries again by itself",
    )
}
