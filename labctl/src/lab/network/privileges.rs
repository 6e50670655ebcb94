//! By what right this process makes bridges and TAPs, and how a user without any gets it.

use std::fmt;
use std::fs;

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};
use vmm_core::namespace;

/// What lets this process create network namespaces, bridges and TAPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// It runs as root.
    Root,
    /// It has CAP_NET_ADMIN and CAP_SYS_ADMIN, from a file or from whoever started it.
    Capabilities,
    /// It is in a user namespace, where it has these.
    UserNamespace,
}

impl fmt::Display for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "as root",
            Self::Capabilities => "by CAP_NET_ADMIN and CAP_SYS_ADMIN",
            Self::UserNamespace => "without root, in a user namespace",
        })
    }
}

impl Privileges {
    /// What this process has; `None` if it lacks a capability that it needs.
    pub fn current() -> Option<Self> {
        let needed = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
        if !capabilities(None).is_ok_and(|sets| sets.effective.contains(needed)) {
            return None;
        }
        // Only the first user namespace has all numbers; user_namespaces(7).
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Some(if !map.split_whitespace().eq(["0", "0", "4294967295"]) {
            Self::UserNamespace
        } else if geteuid().is_root() {
            Self::Root
        } else {
            Self::Capabilities
        })
    }

    /// Makes a user namespace and enters it, if this process lacks what it needs. Call it while
    /// there is one thread. A lab that asks for no TAP needs no more than it has, so failure is no
    /// error here: the lab that does ask will say what mends it.
    pub fn acquire() {
        if Self::current().is_some() {
            return;
        }
        match namespace::enter_user() {
            Ok(()) => tracing::debug!("entered a user namespace"),
            Err(error) => tracing::debug!(%error, "cannot enter a user namespace"),
        }
    }
}

/// Switches that keep users out of user namespaces: file, value that does, and what mends it.
const OBSTACLES: [(&str, &str, &str); 3] = [
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "this host allows no user namespaces: run as root, or \
         `sudo sysctl -w user.max_user_namespaces=16384`",
    ),
    // Debian's patch.
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "this host allows user namespaces to root only: run as root, or \
         `sudo sysctl -w kernel.unprivileged_userns_clone=1`",
    ),
    // Ubuntu's, on since 24.04.
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor keeps this user out of user namespaces: run as root, or \
         `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
];

/// What gives this process what it lacks.
pub(super) fn remedy() -> &'static str {
    remedy_on(|path| fs::read_to_string(path).ok())
}

fn remedy_on(read: impl Fn(&str) -> Option<String>) -> &'static str {
    let stands = |path: &str, value: &str| read(path).is_some_and(|found| found.trim() == value);
    let obstacle = OBSTACLES.iter().find(|(path, value, _)| stands(path, value));
    obstacle.map_or(
        "bridges and TAPs need user namespaces, or CAP_NET_ADMIN and CAP_SYS_ADMIN: run as root, or \
         `sudo setcap cap_net_admin,cap_sys_admin+ep \"$(command -v labctl)\"`; in a container, \
         start that with `--privileged`",
        |(_, _, remedy)| remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_names_what_stands_in_the_way() {
        for (path, value, command) in [
            ("user/max_user_namespaces", "0\n", "user.max_user_namespaces=16384"),
            ("user/max_user_namespaces", "96365\n", "setcap"),
            ("kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone=1"),
            (
                "kernel/apparmor_restrict_unprivileged_userns",
                "1\n",
                "kernel.apparmor_restrict_unprivileged_userns=0",
            ),
        ] {
            let host = |asked: &str| asked.ends_with(path).then(|| value.to_owned());
            let remedy = remedy_on(host);
            assert!(remedy.contains(command) && remedy.contains("run as root"), "{path}: {remedy}");
        }
    }
}
