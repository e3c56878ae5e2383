//! Worlds of two or three daemons over fake pools, an in-memory network and virtual time, for
//! development only.
//!
//! In one kind of world ([`world`]) engine and endpoints run by themselves, one invocation after the
//! other, which allows to cut at every single point of a step ([`cuts`]). In the other ([`fleet`]) whole
//! daemons run with all their jobs; only their way to each other and the control socket are replaced.
//! What surrounds them is made from a seed: the pools, what users do to them, and what goes wrong. After every operation a watch looks at the pools and says what must never happen;
//! when nothing goes wrong any longer, everything must get level within a few invocations and then
//! stay as it is. The same seed gives the same world, operation by operation.

#![allow(clippy::indexing_slicing, reason = "nothing comes from outside; a panic is a finding like any other")]

pub mod campaign;
pub mod chaos;
pub mod check;
pub mod cuts;
pub mod dice;
pub mod disk;
pub mod fault;
pub mod fleet;
pub mod flow;
pub mod layout;
pub mod machine;
pub mod network;
pub mod picture;
pub mod pipe;
pub mod process;
pub mod report;
pub mod room;
pub mod seed;
pub mod time;
pub mod trace;
pub mod users;
pub mod world;
