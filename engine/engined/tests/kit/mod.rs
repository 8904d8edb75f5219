//! What the end-to-end tests stand on: two namespaces with a supervisor each, and a keeper with fixed keys. Each test uses
//! a part of it.
#![allow(dead_code)]

pub mod agent;
pub mod bed;
pub mod capture;
pub mod keeper;
pub mod machine;
pub mod raw;
pub mod world;

use std::time::{Duration, Instant};

/// Tries until it is so; a minute is for ever.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}
