//! Why the host's network cannot be used, and what mends it.

use std::io::{self, ErrorKind::PermissionDenied};

use vmm_core::backend::TapError;

use super::host_error::HostTapError;
use super::privileges;

/// Why the host cannot carry a lab's frames. The cause is the error's source.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The namespace's thread or its event loop could not be started, or the netlink socket opened.
    #[error("cannot start the host network's thread")]
    Thread(#[source] io::Error),
    /// A namespace of our own was refused.
    #[error("cannot create a network namespace")]
    Namespace(#[source] io::Error),
    /// The namespace could not be kept quiet.
    #[error("cannot write {path}")]
    Setting {
        /// The sysctl file.
        path: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A bridge was refused.
    #[error("cannot create the bridge \"{name}\"")]
    Bridge {
        /// Its interface name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A TAP was refused.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A TAP outside of the lab cannot be used.
    #[error(transparent)]
    HostTap(#[from] HostTapError),
    /// An interface exists but could not be configured or read.
    #[error("cannot {action} the interface \"{name}\"")]
    Interface {
        /// What was tried.
        action: &'static str,
        /// The interface's name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The addresses of the host's interfaces could not be read.
    #[error("cannot read the host's addresses")]
    Addresses(#[source] io::Error),
    /// The namespace's thread has ended, which is a bug.
    #[error("the host network's thread has ended")]
    Gone,
}

const DRIVER: &str = "load the driver with `sudo modprobe tun`; \
    in a container, start that with `--device /dev/net/tun`";

const NODE: &str = "allow this user to read and write /dev/net/tun: run as root, or \
    `sudo chmod 0666 /dev/net/tun`; in a container, start that with `--device /dev/net/tun`";

const NAMESPACE_LIMIT: &str = "the host's limit is reached: raise it with \
    `sudo sysctl -w user.max_net_namespaces=1024`";

impl NetworkError {
    pub(super) fn interface(action: &'static str, name: &str, source: io::Error) -> Self {
        Self::Interface { action, name: name.to_owned(), source }
    }

    /// What mends it, if a user can: best a command that can be copied.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::Namespace(e) => match e.raw_os_error() {
                Some(libc::ENOSPC) => NAMESPACE_LIMIT,
                Some(libc::EINVAL | libc::ENOSYS) => {
                    "the kernel lacks network namespaces: it needs CONFIG_NET_NS"
                }
                _ => privileges::remedy(),
            },
            Self::HostTap(error) => return error.help(),
            Self::Setting { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                "/proc/sys is read-only here: start the container with `--privileged`"
            }
            Self::Bridge { source, .. } if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                "load the driver with `sudo modprobe bridge`"
            }
            Self::Setting { source, .. }
            | Self::Bridge { source, .. }
            | Self::Interface { source, .. }
            | Self::Tap(TapError::Create { source, .. })
                if source.kind() == PermissionDenied =>
            {
                privileges::remedy()
            }
            Self::Tap(TapError::Open(e)) => match e.kind() {
                io::ErrorKind::NotFound => DRIVER,
                PermissionDenied => NODE,
                _ if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => DRIVER,
                _ => return None,
            },
            _ => return None,
        };
        Some(text.to_owned())
    }
}

pub(super) fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
