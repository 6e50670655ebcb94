//! A lab file's experiment: its trials, its cells, and what it asserts of them.
//!
//! A key of the file (`keys`) gets other values (`drafts`); each such tree is decoded and resolved anew
//! (`cells`). Assertions are parsed (`expression`) and their cells found (`assertions`).

pub mod assertions;
pub mod cells;
pub mod drafts;
pub mod expression;
pub mod keys;
pub mod trials;
