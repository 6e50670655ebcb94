//! Why a host's end of a link cannot be used, and the commands that mend it.

use std::io;

use vmm_core::backend::TapError;

use crate::error::did_you_mean;
use crate::topology::HostTap;
use crate::units::Network;

/// Why a TAP outside of the lab cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostTapError {
    /// There is no network namespace of that name.
    #[error("there is no network namespace \"{name}\"")]
    NoSuchNamespace {
        /// The name.
        name: String,
        /// Those that there are, sorted.
        existing: Vec<String>,
    },
    /// The network namespace may not be entered.
    #[error("cannot enter the network namespace \"{name}\"")]
    Enter {
        /// Its name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It is not there, and could not be created.
    #[error("the host has no TAP interface \"{}\", and it could not be created", tap.name)]
    Missing {
        /// What the lab wants.
        tap: HostTap,
        /// The kernel's answer.
        source: TapError,
    },
    /// It is there, and is another's, in use, or nothing that we can use.
    #[error("the interface \"{}\" is there, but cannot be the host's end of a link", tap.name)]
    Refused {
        /// What the lab wants.
        tap: HostTap,
        /// The kernel's answer.
        source: TapError,
    },
    /// It is there, but down.
    #[error("the interface \"{}\" is down", tap.name)]
    Down {
        /// What the lab wants.
        tap: HostTap,
    },
    /// It is there, without its address.
    #[error("the interface \"{}\" does not have the address {address}", tap.name)]
    Unaddressed {
        /// What the lab wants.
        tap: HostTap,
        /// The address that is missing.
        address: Network,
    },
}

impl HostTapError {
    /// What mends it: best a command that can be copied.
    pub(super) fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoSuchNamespace { name, existing } => no_such(name, existing),
            Self::Enter { name, source } if source.raw_os_error() == Some(libc::EINVAL) => format!(
                "it is only a file that was left behind: \
                 `sudo ip netns delete {name} && sudo ip netns add {name}`"
            ),
            Self::Enter { .. } => {
                "only root may enter a namespace that root made: run labctl with \
                sudo, or take a TAP that is in no namespace"
                    .to_owned()
            }
            Self::Missing { tap, source } => match refusal(source)? {
                libc::EPERM => format!("create it for this user: `{}`", add(tap)),
                libc::EINVAL => "choose another name: the kernel refuses this one".to_owned(),
                _ => return None,
            },
            Self::Refused { tap, source } => match refusal(source)? {
                libc::EBUSY => {
                    "another program has it open: end that, or choose another name".into()
                }
                libc::EPERM => format!("it is for another user: `{} && {}`", delete(tap), add(tap)),
                _ => "it is no TAP, or one with several queues: choose another name".to_owned(),
            },
            Self::Down { tap } => format!("`{}`", set_up(tap)),
            Self::Unaddressed { tap, address } => format!("`{}`", set_address(tap, address)),
        })
    }
}

/// Why the kernel refused the interface; `None` if it did not.
fn refusal(error: &TapError) -> Option<i32> {
    match error {
        TapError::Create { source, .. } | TapError::Attach { source, .. } => {
            Some(source.raw_os_error().unwrap_or(libc::EINVAL))
        }
        _ => None,
    }
}

fn no_such(name: &str, existing: &[String]) -> String {
    let create = format!("create it with `sudo ip netns add {name}`");
    match did_you_mean(name, existing.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`? Or {create}"),
        None if existing.is_empty() => create,
        None => format!("there are {}; or {create}", existing.join(", ")),
    }
}

/// The command that speaks to the TAP's namespace.
fn ip(tap: &HostTap) -> String {
    let namespace = tap.netns.iter().map(|name| format!(" -n {name}"));
    format!("sudo ip{}", namespace.collect::<String>())
}

/// Creates it for this user, as the lab wants it.
fn add(tap: &HostTap) -> String {
    let add = format!("{} tuntap add dev {} mode tap user $(id -un)", ip(tap), tap.name);
    let address = tap.address.iter().map(|address| set_address(tap, address));
    [add, set_up(tap)].into_iter().chain(address).collect::<Vec<_>>().join(" && ")
}

fn delete(tap: &HostTap) -> String {
    format!("{} link delete {}", ip(tap), tap.name)
}

fn set_up(tap: &HostTap) -> String {
    format!("{} link set {} up", ip(tap), tap.name)
}

fn set_address(tap: &HostTap, address: &Network) -> String {
    format!("{} address add {address} dev {}", ip(tap), tap.name)
}
