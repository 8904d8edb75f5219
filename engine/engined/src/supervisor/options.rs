//! The command line of `supervise`.

use super::settings::Settings;
use std::path::PathBuf;

pub struct Options {
    pub run_dir: PathBuf,
    pub uapi_dir: PathBuf,
    /// Program and arguments; none: no keeper is started (somebody else does).
    pub keeper: Vec<String>,
    pub devices: Vec<Settings>,
    pub max_peers: u32,
    /// User and group of the engine.
    pub user: u32,
    pub take_over: bool,
    /// After a hand-over stay, holding nothing, until told to end: a container that ends is started again.
    pub linger: bool,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options = Options {
            run_dir: "/run/pellicle".into(),
            uapi_dir: "/var/run/wireguard".into(),
            keeper: Vec::new(),
            devices: Vec::new(),
            max_peers: 2048,
            user: 65_534,
            take_over: false,
            linger: false,
        };
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            if flag == "--take-over" {
                options.take_over = true;
                continue;
            }
            if flag == "--linger" {
                options.linger = true;
                continue;
            }
            let value = rest.next().ok_or_else(|| format!("{flag} wants a value"))?;
            let number = || value.parse::<u32>().map_err(|_| format!("{flag}: {value:?} is not a number"));
            match flag.as_str() {
                "--run-dir" => options.run_dir = value.into(),
                "--uapi-dir" => options.uapi_dir = value.into(),
                "--keeper-command" => options.keeper = value.split_whitespace().map(String::from).collect(),
                "--device" => options.devices.push(Settings::from_flag(value)?),
                "--max-peers" => options.max_peers = number()?,
                "--engine-user" => options.user = number()?,
                _ => return Err(format!("unknown flag {flag}; see pellicle-engine --help")),
            }
        }
        if !(1..=65_536).contains(&options.max_peers) {
            return Err("--max-peers: 1 to 65536".into());
        }
        Ok(options)
    }

    /// What is kept for a device.
    pub fn folder(&self, device: &str) -> PathBuf {
        self.run_dir.join(device)
    }
}
