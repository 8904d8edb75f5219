//! The engine process: packets only. It gets every descriptor from the supervisor and opens nothing itself.

mod control;
pub mod counters;
mod filter;
#[cfg(test)]
mod hot_path;
mod inbound;
mod index;
pub mod ipsec;
mod kind;
mod links;
mod notice;
mod orders;
mod outbound;
mod places;
mod prefix_slots;
mod prefixes;
mod rcu;
mod region;
mod runs;
mod seal;
mod shared;
mod sink;
pub mod start;
pub mod state;
mod tap;
mod waiting;
