//! Why guests could not be connected.

use std::io;

use vmm_core::backend::TapError;
use vmm_core::cable::ImpairmentError;
use vmm_core::switch::SwitchError;

use crate::lab::network::NetworkError;

/// Why the guests could not be connected.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// The host's network refused.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A TAP refused.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A switch is full.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// A cable cannot be impaired like that.
    #[error(transparent)]
    Impairments(#[from] ImpairmentError),
    /// The thread that carries delayed frames could not be started.
    #[error("cannot start the cables' thread")]
    Courier(#[source] io::Error),
    /// The kernel gave no socket, or no second descriptor of a TAP.
    #[error("cannot create a cable for QEMU")]
    Lend(#[source] io::Error),
    /// A NIC is to be on a switch that is not there, which is a bug.
    #[error("there is no switch `{0}`")]
    NoSwitch(String),
    /// A NIC of ours is to be where only another VMM's can be, or the other way round; a bug.
    #[error("the switch is not one for this guest")]
    NotOurs,
}

impl FabricError {
    /// What to do about it, if that is known.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Network(error) => error.help(),
            Self::Tap(_)
            | Self::Switch(_)
            | Self::Impairments(_)
            | Self::Courier(_)
            | Self::Lend(_)
            | Self::NoSwitch(_)
            | Self::NotOurs => None,
        }
    }
}
