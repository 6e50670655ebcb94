//! An embeddable virtual machine monitor for packet I/O.
//!
//! Guests run on KVM with an emulated Intel 82540EM ("e1000") and exchange frames through an
//! in-process VALE switch or a TAP device. The crate knows nothing of topology files or benchmarks.
//!
//! ```text
//! guest driver -> vCPU exit -> bus -> e1000 -> Backend: switch port -> Receiver: e1000 -> guest
//!                                                    or TAP
//! ```
//!
//! Start at [`machine::Machine`]; the seams are [`backend::Backend`], [`backend::Receiver`],
//! [`irq::InterruptLine`] and [`clock::Clock`].

#![warn(missing_docs)]

pub mod backend;
pub mod boot;
pub mod bus;
pub mod cable;
pub mod child;
pub mod clock;
pub mod cpus;
pub mod doorbell;
pub mod e1000;
pub mod irq;
pub mod kvm;
pub mod machine;
pub mod memory;
pub mod namespace;
pub mod pci;
pub mod platform;
pub mod policy;
pub mod serial;
pub mod switch;
