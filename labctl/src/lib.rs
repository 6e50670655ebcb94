//! labctl: a declarative lab for emulated NICs, drivers and switches.
//!
//! Data flows one way: file -> [`topology`] -> plan -> lab -> trials -> results -> report.

pub mod cli;
pub mod error;
pub mod topology;
