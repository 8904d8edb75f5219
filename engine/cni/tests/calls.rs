//! The executable as a runtime calls it, with an agent that answers and without one.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("pe-cni-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a temporary folder");
    path
}

fn config(folder: &Path) -> Value {
    json!({ "cniVersion": "1.0.0", "name": "cilium", "type": "cilium-cni",
        "socket": folder.join("cni.sock"), "queueDir": folder.join("queue") })
}

fn call(command: &str, config: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pellicle-cni"))
        .env_clear()
        .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/n"), ("CNI_IFNAME", "eth0")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the executable starts");
    child.stdin.take().expect("stdin").write_all(config.as_bytes()).expect("the configuration is read");
    child.wait_with_output().expect("the executable ends")
}

fn printed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[test]
fn hands_the_call_over_and_prints_the_answer() {
    let folder = folder("answer");
    let listener = UnixListener::bind(folder.join("cni.sock")).expect("a socket");
    let agent = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in [
            json!({"exitCode": 0, "output": {"cniVersion": "1.0.0", "ips": []}}),
            json!({"exitCode": 0, "output": null}),
            json!({"exitCode": 3, "output": {"code": 100}}),
        ] {
            let (mut stream, _) = listener.accept().expect("a call");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a line");
            asked.push(serde_json::from_str::<Value>(&line).expect("JSON"));
            writeln!(stream, "{answer}").expect("answered");
        }
        asked
    });
    let config = config(&folder);
    let added = call("ADD", &config.to_string());
    assert_eq!((added.status.code(), printed(&added)), (Some(0), json!({"cniVersion": "1.0.0", "ips": []})));
    let deleted = call("DEL", &config.to_string());
    assert_eq!((deleted.status.code(), deleted.stdout.as_slice()), (Some(0), b"".as_slice()));
    let checked = call("CHECK", &config.to_string());
    assert_eq!((checked.status.code(), printed(&checked)), (Some(3), json!({"code": 100})));
    let asked = agent.join().expect("the agent ends");
    assert_eq!(
        asked[0],
        json!({"command": "ADD", "containerId": "c1", "netns": "/n", "ifname": "eth0", "args": null, "path": null, "config": config})
    );
    assert_eq!(asked[1]["command"], "DEL");
    std::fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn without_an_agent() {
    let folder = folder("away");
    let config = config(&folder).to_string();
    for (command, code) in [("ADD", 11), ("CHECK", 11), ("STATUS", 50)] {
        let output = call(command, &config);
        let error = printed(&output);
        assert_eq!((output.status.code(), error["code"].as_u64()), (Some(1), Some(code)), "{command}");
        assert!(error["msg"].as_str().is_some_and(|text| text.contains("cni.sock")), "{error}");
        assert!(error["details"].as_str().is_some_and(|text| text.contains("kubectl")), "{error}");
    }
    assert_eq!(call("GC", &config).status.code(), Some(0));
    for _ in 0..2 {
        assert_eq!(call("DEL", &config).status.code(), Some(0));
    }
    let files: Vec<_> =
        std::fs::read_dir(folder.join("queue")).expect("the queue").flatten().map(|file| file.file_name()).collect();
    assert_eq!(files, ["c1-eth0.json"]);
    let queued = std::fs::read(folder.join("queue/c1-eth0.json")).expect("the file");
    let queued: Value = serde_json::from_slice(&queued).expect("JSON");
    assert_eq!((&queued["command"], &queued["config"]["name"]), (&json!("DEL"), &json!("cilium")));
    std::fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn answers_version_itself() {
    for (input, version) in
        [("", "1.1.0"), (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"), (r#"{"cniVersion":"9.9.9"}"#, "1.1.0")]
    {
        let output = call("VERSION", input);
        assert_eq!(printed(&output)["cniVersion"], version);
        assert_eq!(printed(&output)["supportedVersions"], json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
    }
}

#[test]
fn a_broken_configuration_is_named() {
    let output = call("ADD", "{");
    assert_eq!((output.status.code(), printed(&output)["code"].as_u64()), (Some(1), Some(6)));
}
