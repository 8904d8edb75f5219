//! The operations of docs/protocol/supervisor.md.

use super::device::Device;
use super::fault::Fault;
use super::left::remove_left;
use super::renew::renew;
use super::run::Supervisor;
use super::settings::Settings;
use serde_json::{Value, json};

/// What a request comes to.
pub enum Answer {
    Now(Value),
    /// When the device of this name is ready.
    WhenReady(String),
    HandOver,
}

pub fn carry_out(supervisor: &mut Supervisor, request: &Value) -> Result<Answer, Fault> {
    let name = || {
        request["name"].as_str().ok_or_else(|| Fault::new("request.malformed", "name is missing", "name the device"))
    };
    match request["op"].as_str() {
        Some("device.add") => {
            let up = request["device"]["up"].as_bool().unwrap_or(true);
            add(supervisor, &Settings::parse(&request["device"])?, up)
        }
        Some("device.listen") => {
            let device = find(supervisor, name()?)?;
            let port = number(request, "listenPort", 65_535, device.settings.port.into())?;
            let mark = number(request, "mark", u32::MAX.into(), device.settings.mark.into())?;
            device.listen(port as u16, mark as u32)?;
            Ok(Answer::Now(json!({ "ok": true, "listenPort": device.settings.port })))
        }
        Some("device.remove") => {
            let name = name()?;
            match supervisor.devices.iter().position(|device| device.settings.name == name) {
                Some(at) => supervisor.devices.remove(at).remove(&supervisor.options),
                None if remove_left(&supervisor.options, name) => {}
                None => drop(find(supervisor, name)?),
            }
            Ok(Answer::Now(json!({ "ok": true })))
        }
        Some("device.renew") => {
            let name = name()?;
            renew(find(supervisor, name)?)?;
            Ok(Answer::WhenReady(name.into()))
        }
        Some("status") => Ok(Answer::Now(status(supervisor))),
        Some("handover") => Ok(Answer::HandOver),
        _ => Err(Fault::new(
            "request.unknown",
            "no such operation",
            "device.add, device.listen, device.remove, device.renew, status, handover",
        )),
    }
}

fn number(request: &Value, field: &str, most: u64, missing: u64) -> Result<u64, Fault> {
    match &request[field] {
        Value::Null => Ok(missing),
        value => value.as_u64().filter(|found| *found <= most).ok_or_else(|| {
            Fault::new("request.malformed", format!("{field} is not usable"), format!("a number from 0 to {most}"))
        }),
    }
}

pub fn find<'a>(supervisor: &'a mut Supervisor, name: &str) -> Result<&'a mut Device, Fault> {
    let found = supervisor.devices.iter_mut().find(|device| device.settings.name == name);
    found.ok_or_else(|| Fault::new("device.unknown", format!("there is no device {name}"), "device.add makes it"))
}

/// A device that is there already gets what differs. One that is made is brought up, or left to somebody who has
/// something to set before.
pub fn add(supervisor: &mut Supervisor, wanted: &Settings, up: bool) -> Result<Answer, Fault> {
    match find(supervisor, &wanted.name) {
        Ok(device) if device.settings.kind != wanted.kind => {
            return Err(Fault::new(
                "device.invalid",
                format!("{} is a device of {}", wanted.name, device.settings.kind.word()),
                "remove it first, or choose another name",
            ));
        }
        Ok(device) => {
            if device.settings.mtu != wanted.mtu {
                device.set_mtu(wanted.mtu)?;
            }
            let port = if wanted.port == 0 { device.settings.port } else { wanted.port };
            device.listen(port, wanted.mark)?;
        }
        Err(_) => {
            let device = Device::open(wanted, &supervisor.options, up)?;
            supervisor.devices.push(device);
        }
    }
    Ok(Answer::WhenReady(wanted.name.clone()))
}

pub fn status(supervisor: &Supervisor) -> Value {
    let devices: Vec<Value> = supervisor.devices.iter().map(Device::json).collect();
    json!({ "ok": true, "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(), "devices": devices })
}
