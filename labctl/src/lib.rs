//! labctl: a declarative lab for emulated NICs, drivers and switches.
//!
//! Data flows one way: file -> [`topology`] -> [`plan`] -> [`lab`] -> [`mod@bench`] -> [`results`] ->
//! [`report`].

pub mod bench;
pub mod cli;
pub mod control;
pub mod error;
pub mod files;
pub mod impairments;
pub mod lab;
pub mod optimizations;
pub mod plan;
pub mod platform;
pub mod policy;
pub mod protocol;
pub mod report;
pub mod results;
pub mod supervisor;
pub mod topology;
pub mod units;
