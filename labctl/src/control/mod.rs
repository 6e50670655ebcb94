//! The control socket of a running lab: where it is, and what is said on it.

pub mod client;
pub mod directory;
pub mod protocol;
