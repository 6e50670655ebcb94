//! Trials, and what is concluded from them.

pub mod compare;
pub mod effects;
pub mod runner;
pub mod stats;
pub mod summary;
pub mod trial;
