//! `pellicle-engine`: the packets of the userspace datapath. `supervise` is the small process that holds descriptors
//! and memory; `engine` is what it starts for each device, and nothing to start by hand.

/// A line of the log. One that cannot be written (a full disk) is lost: `eprintln!` would end the supervisor for it, and
/// with it every device.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($part)*);
    }};
}

mod channel;
#[cfg(test)]
mod counting;
mod engine;
mod supervisor;

use std::process::ExitCode;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const USAGE: &str = "usage: pellicle-engine supervise --run-dir DIR [--take-over] [--linger]
         [--keeper-command COMMAND] [--uapi-dir DIR] [--device name=NAME,kind=wireguard,mtu=1420,port=51820,mark=0]...
         [--max-peers N] [--engine-user UID]
       pellicle-engine wireguard [--keeper-command COMMAND] [--run-dir DIR] [--uapi-dir DIR] [-f|--foreground] INTERFACE
       pellicle-engine version";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("supervise") => supervisor::run(&arguments[1..]),
        Some("engine") => engine::start::run().map_err(|error| error.to_string()),
        Some("wireguard") => supervisor::run_alone(&arguments[1..]),
        Some("rest") => supervisor::rest(),
        Some("version" | "--version") => {
            println!("pellicle-engine {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(USAGE.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say!("level=error msg={message:?}");
            ExitCode::FAILURE
        }
    }
}
