//! The engine process: packets only. It gets every descriptor from the supervisor and opens nothing itself.

mod control;
pub mod counters;
mod inbound;
mod index;
mod notice;
mod orders;
mod outbound;
mod places;
mod rcu;
mod runs;
mod seal;
mod shared;
pub mod start;
pub mod state;
mod waiting;
