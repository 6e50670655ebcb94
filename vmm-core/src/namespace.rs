//! Linux namespaces: a network of one's own, the right to make one without being root, and the way
//! into one that somebody else made.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Moves this process into a user namespace of its own. There it may create network namespaces, and
/// do anything in those. Everywhere else it has only the rights of its user, whatever it had before.
/// User, group and supplementary groups stay, so files belong to whom they always belonged.
///
/// A process that was let in but given no rights could not leave again, so a child tries it first:
/// if this fails, nothing has changed.
///
/// # Errors
/// EINVAL if the process has more than one thread, ENOSPC at the limit `user.max_user_namespaces`,
/// EPERM if a security module, a sysctl or a chroot forbids it.
pub fn enter_user() -> io::Result<()> {
    // The kernel wants it so, and a forked child would keep the other threads' locks for ever.
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // AppArmor may grant the namespace and then withhold its rights.
    try_in_child(|| unshare_user().and_then(|()| enter_private_net()))?;
    unshare_user()
}

fn unshare_user() -> io::Result<()> {
    // SAFETY: these take no pointers and always succeed.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    unshare(libc::CLONE_NEWUSER)?;
    // Else dropping a group could give access that the group is denied; user_namespaces(7).
    match fs::write("/proc/self/setgroups", "deny") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// Makes `attempt` in a copy of this process, which must have one thread, and returns its result.
fn try_in_child(attempt: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: of a process with one thread the child is a whole copy: no lock is held by another.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        let result = attempt().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO));
        // SAFETY: ends the child at once and runs nothing that the parent has registered.
        unsafe { libc::_exit(result.err().unwrap_or(0)) }
    }
    let mut status = 0;
    // SAFETY: `status` lives across the call, which writes only to it.
    while unsafe { libc::waitpid(child, &mut status, 0) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    match libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::other("the attempt was killed")),
    }
}

/// Moves the calling thread, and no other, into a new network namespace with nothing but a loopback
/// interface that is down. The namespace ends with its last thread, TAP and socket: it has no name
/// that could outlive the process. Needs CAP_SYS_ADMIN.
///
/// # Errors
/// The kernel's: EPERM, or ENOSPC at the limit `user.max_net_namespaces`.
pub fn enter_private_net() -> io::Result<()> {
    unshare(libc::CLONE_NEWNET)
}

/// Moves the calling thread, and no other, into the network namespace behind an open file, such as
/// one of `/run/netns`. Needs CAP_SYS_ADMIN there as well as here.
///
/// # Errors
/// The kernel's: EPERM, or EINVAL if the file is none.
pub fn enter_net(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointers, and changes only which namespace this thread's later calls mean.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn unshare(what: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointers; only what the caller's later calls mean and may do changes.
    match unsafe { libc::unshare(what) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_process_with_threads_stays_where_it_is() {
        let user = || fs::read_link("/proc/self/ns/user").unwrap();
        let before = user();
        // Its own thread, so that there are two even if tests run on the main thread.
        let result = std::thread::spawn(enter_user).join().unwrap();
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(user(), before);
    }

    #[test]
    fn a_file_that_is_no_namespace_is_refused() {
        let file = File::open("/proc/self/exe").unwrap();
        let error = enter_net(file.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
