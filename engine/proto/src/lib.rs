//! What the engine knows about bytes, without I/O, clock or randomness: frames between keeper and engine, WireGuard's
//! data messages, IP headers, cutting and joining of super packets, replay window, prefix table, session rules.
//! Imports nothing but core and std; whoever calls brings time and memory.

pub mod checksum;
pub mod coalesce;
pub mod ecn;
pub mod endpoint;
pub mod esp;
pub mod event;
pub mod frame;
pub mod ip;
pub mod prefix;
pub mod prefix_table;
pub mod reader;
pub mod replay;
pub mod request;
pub mod session;
pub mod split;
pub mod transport;
pub mod virtio;
