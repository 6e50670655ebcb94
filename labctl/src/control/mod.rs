//! The control socket of a running lab.

pub mod protocol;
