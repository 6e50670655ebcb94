//! Other programs that run for us: they get open files and never outlive us.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Starts a program that the kernel kills when the calling thread ends, however it ends; so call
/// this on a thread that lives as long as the program is needed. The descriptors in `files` keep
/// their numbers in the program; all others are closed there.
///
/// # Errors
/// The kernel's, such as ENOENT if there is no such program.
pub fn spawn(command: &mut Command, files: &[BorrowedFd<'_>]) -> io::Result<Child> {
    let files: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let parent = std::process::id() as libc::pid_t;
    let prepare = move || {
        let refused = |result| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        // SAFETY: these calls take plain numbers; all of them may be made between fork and exec.
        unsafe {
            refused(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // A parent that ended before the call above sends no signal any more.
            if libc::getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            files.iter().try_for_each(|&file| refused(libc::fcntl(file, libc::F_SETFD, 0)))
        }
    };
    // SAFETY: the closure only makes async-signal-safe calls and allocates nothing: the error of a
    // system call is a number. Its descriptors are open until `spawn` returns: they are borrowed.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

/// A file without a name that holds `contents` and is gone with its last descriptor.
///
/// # Errors
/// The kernel's.
pub fn unnamed_file(contents: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string; the call returns a new descriptor or -1.
    let fd = unsafe { libc::memfd_create(c"labctl".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just created, and nobody else knows it.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(contents)?;
    file.rewind()?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::process::Stdio;

    #[test]
    fn a_program_gets_its_files_and_no_others() {
        let [given, kept] = [b"given", b"kept!"].map(|text| unnamed_file(text).unwrap());
        let paths = [&given, &kept].map(|file| format!("/proc/self/fd/{}", file.as_raw_fd()));
        let mut command = Command::new("cat");
        command.args(paths).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = spawn(&mut command, &[given.as_fd()]).unwrap();
        let mut output = String::new();
        child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        assert_eq!(output, "given");
        assert!(!child.wait().unwrap().success(), "the other file is not there");
    }

    #[test]
    fn a_program_ends_with_the_thread_that_started_it() {
        let start = || spawn(Command::new("sleep").arg("1000"), &[]).unwrap();
        let mut child = std::thread::spawn(start).join().unwrap();
        assert!(!child.wait().unwrap().success(), "killed");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let error = spawn(&mut Command::new("/nonexistent"), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
