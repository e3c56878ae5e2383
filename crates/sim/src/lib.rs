//! A world of two daemons over fake pools, an in-memory network and virtual time, for development only.
//!
//! The engine and the endpoints that run in it are the real ones, without the jobs, timers and control
//! socket around them. What surrounds them is made from a seed: the pools, what users do to them, and
//! what goes wrong. After every operation a watch looks at the pools and says what must never happen;
//! when nothing goes wrong any longer, everything must get level within a few invocations and then
//! stay as it is. The same seed gives the same world, operation by operation.

#![allow(clippy::indexing_slicing, reason = "nothing comes from outside; a panic is a finding like any other")]

pub mod chaos;
pub mod check;
pub mod cuts;
pub mod dice;
pub mod disk;
pub mod fault;
pub mod machine;
pub mod network;
pub mod picture;
pub mod process;
pub mod report;
pub mod room;
pub mod time;
pub mod trace;
pub mod world;
