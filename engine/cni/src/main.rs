//! The CNI executable: hands every call to the agent and prints its answer, since a Node start for each pod would be
//! too slow. CNI specification 1.1.0 (github.com/containernetworking/cni, SPEC.md); the agent does the work.

mod agent;
mod answer;
mod call;
mod queue;

use answer::Failure;
use call::Call;
use serde_json::Value;
use std::io::{Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut input = Vec::new();
    let read = std::io::stdin().take(1 << 20).read_to_end(&mut input);
    let call = match read {
        Ok(_) => Call::from_environment(|name| std::env::var(name).ok(), &input),
        Err(error) => Err(Failure::new(5, "the configuration could not be read", &error.to_string())),
    };
    let (output, code) = match call.and_then(|call| carry_out(&call)) {
        Ok((output, code)) => (output, code),
        Err(failure) => (failure.json(&input), 1),
    };
    if !output.is_null() {
        let printed = std::io::stdout().write_all(format!("{output}\n").as_bytes());
        if printed.is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::from(code)
}

/// What to print, and the exit code.
fn carry_out(call: &Call) -> Result<(Value, u8), Failure> {
    if call.command == "VERSION" {
        return Ok((answer::versions(&call.config), 0));
    }
    match agent::ask(call) {
        Ok(answer) => Ok(answer),
        Err(reason) => match call.command.as_str() {
            "DEL" => {
                queue::put(call).map_err(|error| {
                    let folder = call.queue_folder();
                    Failure::new(
                        11,
                        &format!("the agent does not answer and {} cannot be written", folder.display()),
                        &error.to_string(),
                    )
                })?;
                Ok((Value::Null, 0))
            }
            "GC" => Ok((Value::Null, 0)),
            "STATUS" => Err(agent::away(50, call, &reason)),
            _ => Err(agent::away(11, call, &reason)),
        },
    }
}
