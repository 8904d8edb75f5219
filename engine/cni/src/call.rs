//! One call of the plugin: what the environment and standard input say (SPEC.md, section 2).

use crate::answer::Failure;
use serde_json::{Value, json};
use std::path::PathBuf;

pub struct Call {
    pub command: String,
    pub container: Option<String>,
    pub netns: Option<String>,
    pub interface: Option<String>,
    pub arguments: Option<String>,
    pub path: Option<String>,
    pub config: Value,
}

const COMMANDS: &[&str] = &["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"];

impl Call {
    pub fn from_environment(get: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<Call, Failure> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let missing = |name: &str| {
            Failure::new(
                4,
                &format!("{name} is not set"),
                "this program is called by a container runtime, see the CNI specification",
            )
        };
        let command = get("CNI_COMMAND").ok_or_else(|| missing("CNI_COMMAND"))?;
        if !COMMANDS.contains(&command.as_str()) {
            return Err(Failure::new(4, &format!("CNI_COMMAND {command:?} is not known"), &COMMANDS.join(", ")));
        }
        let config: Value = match serde_json::from_slice(input) {
            Ok(Value::Object(fields)) => Value::Object(fields),
            Ok(_) => return Err(Failure::new(6, "the configuration is not a JSON object", "")),
            Err(_) if command == "VERSION" && input.trim_ascii().is_empty() => json!({}),
            Err(error) => return Err(Failure::new(6, "the configuration is not JSON", &error.to_string())),
        };
        let call = Call {
            command,
            container: get("CNI_CONTAINERID"),
            netns: get("CNI_NETNS"),
            interface: get("CNI_IFNAME"),
            arguments: get("CNI_ARGS"),
            path: get("CNI_PATH"),
            config,
        };
        call.check(missing)?;
        Ok(call)
    }

    fn check(&self, missing: impl Fn(&str) -> Failure) -> Result<(), Failure> {
        if !matches!(self.command.as_str(), "ADD" | "DEL" | "CHECK") {
            return Ok(());
        }
        let container = self.container.as_deref().ok_or_else(|| missing("CNI_CONTAINERID"))?;
        let interface = self.interface.as_deref().ok_or_else(|| missing("CNI_IFNAME"))?;
        if self.command != "DEL" && self.netns.is_none() {
            return Err(missing("CNI_NETNS"));
        }
        // Both become parts of a file name in the queue of deletions.
        let first = |text: &str| text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let rest = |text: &str| text.chars().all(|one| one.is_ascii_alphanumeric() || "_.-".contains(one));
        if container.len() > 200 || !first(container) || !rest(container) {
            return Err(Failure::new(
                4,
                "CNI_CONTAINERID is not a container ID",
                "letters, digits, '_', '.' and '-', a letter or digit first",
            ));
        }
        if interface.len() > 15
            || interface == "."
            || interface == ".."
            || interface.contains(['/', ':'])
            || interface.contains(char::is_whitespace)
        {
            return Err(Failure::new(
                4,
                "CNI_IFNAME is not a device name",
                "1 to 15 characters without slash, colon and white space",
            ));
        }
        Ok(())
    }

    pub fn json(&self) -> Value {
        json!({ "command": self.command, "containerId": self.container, "netns": self.netns, "ifname": self.interface,
            "args": self.arguments, "path": self.path, "config": self.config })
    }

    pub fn socket(&self) -> PathBuf {
        self.config["socket"].as_str().unwrap_or("/var/run/cilium/cni.sock").into()
    }

    pub fn queue_folder(&self) -> PathBuf {
        self.config["queueDir"].as_str().unwrap_or("/var/run/cilium/deletequeue").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(pairs: &[(&str, &str)], input: &str) -> Result<Call, u32> {
        let get = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_string());
        Call::from_environment(get, input.as_bytes()).map_err(|failure| failure.code)
    }

    const ADD: [(&str, &str); 4] =
        [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "abc-1"), ("CNI_NETNS", "/run/netns/x"), ("CNI_IFNAME", "eth0")];

    #[test]
    fn takes_a_whole_call() {
        let found = call(&ADD, r#"{"cniVersion":"1.0.0","name":"cilium","socket":"/x"}"#);
        assert!(found.is_ok_and(|call| call.socket() == *"/x" && call.json()["containerId"] == "abc-1"));
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(call(&[], "{}").err(), Some(4));
        assert_eq!(call(&[("CNI_COMMAND", "JUMP")], "{}").err(), Some(4));
        assert_eq!(call(&ADD, "{").err(), Some(6));
        assert_eq!(call(&ADD, "[]").err(), Some(6));
        for (missing, _) in &ADD[1..] {
            let pairs: Vec<_> = ADD.iter().filter(|(name, _)| name != missing).copied().collect();
            assert_eq!(call(&pairs, "{}").err(), Some(4), "without {missing}");
        }
        for wrong in ["../x", ".", "", "a/b", "-a"] {
            let mut pairs = ADD;
            pairs[1].1 = wrong;
            assert_eq!(call(&pairs, "{}").err(), Some(4), "container {wrong:?}");
            pairs = ADD;
            pairs[3].1 = if wrong == "-a" { "a b" } else { wrong };
            assert_eq!(call(&pairs, "{}").err(), Some(4), "interface {wrong:?}");
        }
        assert!(call(&[("CNI_COMMAND", "VERSION")], "").is_ok());
        assert!(call(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "e")], "{}").is_ok());
    }
}
