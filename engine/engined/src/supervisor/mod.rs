//! The supervisor: holds TUN queues, UDP sockets and shared memory, and keeps keeper and engine running. It reads no
//! packet and takes nothing from the network. One thread, one poll loop; as PID 1 it also reaps.

mod alone;
mod child;
mod connection;
mod device;
mod erase;
mod fault;
mod given;
mod handover;
mod inherited;
mod kind;
mod left;
mod operations;
mod options;
mod paths;
mod renew;
mod run;
mod settings;
mod signals;
mod sockets;

pub use alone::run as run_alone;
pub use run::{rest, run};
