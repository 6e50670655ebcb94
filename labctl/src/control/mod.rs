//! The control socket of a running lab: where it is, and what is said on it.

pub mod directory;
pub mod protocol;
