//! Trials, and what is concluded from them.

pub mod assertions;
pub mod audit;
pub mod compare;
pub mod drops;
pub mod effects;
pub mod peer;
pub mod runner;
pub mod side_by_side;
pub mod stats;
pub mod summary;
pub mod trial;
