//! Who moves the frames.

use std::fmt;

/// The thread that carries frames from a sending guest's ring to where they go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The sender's vCPU thread, on the kick that its guest made.
    #[default]
    Push,
    /// In a stream the receiver's vCPU thread, on the kick that its guest makes when it has used up
    /// what it had; the sender's otherwise. Needs the CSB and VALE; without them the same as `Push`.
    Pull,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Push, Self::Pull];

    /// The name that users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
