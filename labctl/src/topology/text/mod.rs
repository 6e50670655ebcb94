//! A lab file's text: which one is meant, what it says and where, and what is wrong with it there.

pub mod decode;
pub mod document;
pub mod find;
pub mod index;
pub mod tree;
pub mod variables;
