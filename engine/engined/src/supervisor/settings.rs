//! What a device shall be, from a request or the command line.

use super::fault::Fault;
use super::kind::Kind;
use serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub name: String,
    pub kind: Kind,
    pub mtu: u16,
    pub port: u16,
    pub mark: u32,
}

const REMEDY: &str = "see docs/protocol/supervisor.md for the fields of a device";

impl Settings {
    pub fn parse(value: &Value) -> Result<Settings, Fault> {
        let bad = |field: &str| Fault::new("device.invalid", format!("the device's {field} is not usable"), REMEDY);
        let name = value["name"].as_str().filter(|name| usable(name)).ok_or_else(|| bad("name"))?;
        let kind = match value["kind"].as_str() {
            None => Kind::Wireguard,
            Some(word) => Kind::from_word(word).ok_or_else(|| bad("kind (\"wireguard\" or \"ipsec\")"))?,
        };
        let number = |field: &str, least: u64, most: u64| {
            value[field].as_u64().filter(|found| (least..=most).contains(found)).ok_or_else(|| bad(field))
        };
        Ok(Settings {
            name: name.to_string(),
            kind,
            mtu: number("mtu", 576, 65_535)? as u16,
            port: number("listenPort", 0, 65_535)? as u16,
            mark: number("mark", 0, u64::from(u32::MAX))? as u32,
        })
    }

    /// `name=..,kind=..,mtu=..,port=..,mark=..` of the command line.
    pub fn from_flag(text: &str) -> Result<Settings, String> {
        let mut value = json!({ "mtu": 1420, "listenPort": 51_820, "mark": 0 });
        for part in text.split(',') {
            let (key, word) = part.split_once('=').ok_or_else(|| format!("--device: {part:?} is not key=value"))?;
            let number = || {
                let parsed = match word.strip_prefix("0x") {
                    Some(digits) => u64::from_str_radix(digits, 16),
                    None => word.parse(),
                };
                parsed.map_err(|_| format!("--device: {part:?} is not a number"))
            };
            match key {
                "name" => value["name"] = json!(word),
                "kind" => value["kind"] = json!(word),
                "mtu" => value["mtu"] = json!(number()?),
                "port" => value["listenPort"] = json!(number()?),
                "mark" => value["mark"] = json!(number()?),
                _ => return Err(format!("--device: {key:?} is not one of name, kind, mtu, port, mark")),
            }
        }
        Settings::parse(&value).map_err(|fault| fault.message)
    }

    pub fn json(&self) -> Value {
        json!({ "name": self.name, "kind": self.kind.word(), "mtu": self.mtu, "listenPort": self.port, "mark": self.mark })
    }
}

/// A device name that is also a safe file name.
pub fn usable(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'=' | b'+');
    (1..=15).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_flags() {
        let settings = Settings::from_flag("name=wg0,mtu=1280,port=7,mark=0xe00");
        assert_eq!(
            settings,
            Ok(Settings { name: "wg0".into(), kind: Kind::Wireguard, mtu: 1280, port: 7, mark: 0xe00 })
        );
        for wrong in [
            "",
            "name=a/b",
            "name=",
            "name=abcdefghijklmnop",
            "name=a,mtu=70000",
            "name=a,colour=red",
            "name=..",
            "name=a,kind=gre",
            "mtu=5",
        ] {
            assert!(Settings::from_flag(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn kinds() {
        let value = |kind| json!({ "name": "a", "kind": kind, "mtu": 1420, "listenPort": 1, "mark": 0 });
        for kind in ["wireguard", "ipsec"] {
            let settings = Settings::parse(&value(kind)).expect("a kind");
            assert_eq!(settings.json(), value(kind));
        }
        assert!(Settings::parse(&value("gre")).is_err());
    }
}
