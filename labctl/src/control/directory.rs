//! Where labs live: a directory each, and a lock that its supervisor holds.
//!
//! The lock is the only truth: the kernel frees it however the supervisor ends. What else is in the
//! directory is of use while the lock is held, and may be overwritten or removed when it is not.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{self, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Exit};

const LOCK: &str = "lock";
const SOCKET: &str = "control.sock";
const RECORD: &str = "lab.json";

/// Somebody who only looks whether a lock is held holds it for an instant.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);

/// A supervisor that listens only once its lab is built, or was killed and is being cleared away, takes
/// about so long.
const SETTLE_PATIENCE: Duration = Duration::from_secs(10);

/// What a supervisor leaves in its directory for those who come later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The file that the lab began with; absolute, or `-` for standard input.
    pub file: PathBuf,
    /// When it began, in milliseconds of Unix time.
    pub started_ms: u64,
}

impl Record {
    /// The record of a lab that begins with `file`.
    pub fn new(file: &Path, started_ms: u64) -> Self {
        let absolute = || path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let file = if is_a_pipe(file) { PathBuf::from("-") } else { absolute() };
        Self { file, started_ms }
    }

    /// Whether nobody can read the file again.
    pub fn is_from_a_pipe(&self) -> bool {
        is_a_pipe(&self.file)
    }
}

/// Whether a lab file's path stands for standard input: `-`, in whatever directory the paths in it
/// were seen from.
pub fn is_a_pipe(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "-")
}

/// A lab's directory, whether there is a lab in it or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabDirectory {
    pub(super) path: PathBuf,
}

/// The directory of all labs of this user: `LABCTL_STATE_DIR`, or `labctl` in `XDG_RUNTIME_DIR`, or
/// else a directory of the user's own in `/run` or `/tmp`.
pub fn root() -> PathBuf {
    if let Some(chosen) = chosen_root() {
        return chosen;
    }
    if let Some(runtime) = path_in("XDG_RUNTIME_DIR") {
        return runtime.join("labctl");
    }
    match user() {
        0 => PathBuf::from("/run/labctl"),
        user => PathBuf::from(format!("/tmp/labctl-{user}")),
    }
}

/// The directory of all labs, if the user has said which.
fn chosen_root() -> Option<PathBuf> {
    path_in("LABCTL_STATE_DIR")
}

fn path_in(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Whose labs these are.
pub(super) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl LabDirectory {
    /// The directory of the lab of that name.
    pub fn named(name: &str) -> Self {
        Self::within(&root(), name)
    }

    /// The directory of the lab of that name, where all labs are in `root`.
    pub(crate) fn within(root: &Path, name: &str) -> Self {
        Self { path: root.join(name) }
    }

    /// The directories of all labs, dead ones too, by name.
    ///
    /// # Errors
    /// If the directory of labs is there and cannot be read, or is not this user's.
    pub fn all() -> Result<Vec<Self>, Error> {
        let root = root();
        let failed = |error: io::Error| {
            Error::new(Exit::Failed, format!("cannot list {}", root.display())).because(error)
        };
        check_root(&root).map_err(|error| unusable(&root, error))?;
        let entries = match fs::read_dir(&root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let lab = Self { path };
            // Where others may put something, what they have put there is not listed.
            if lab.check().is_ok() && lab.path.join(LOCK).is_file() {
                found.push(lab);
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// Where a supervisor without a terminal writes what it would say there.
    pub fn log(&self) -> PathBuf {
        self.path.join("supervisor.log")
    }

    /// The log of a supervisor that has written something to it.
    pub fn last_words(&self) -> Option<PathBuf> {
        let log = self.log();
        fs::metadata(&log).is_ok_and(|found| found.len() > 0).then_some(log)
    }

    /// That nobody else can have made the directory, or what is in it: it is this user's, and so is
    /// the directory of all labs unless the user has chosen that. One that is not there is as good.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), Error> {
        let root = self.path.parent().unwrap_or(Path::new("."));
        check_root(root).map_err(|error| unusable(root, error))?;
        check_private(&self.path).map_err(|error| unusable(&self.path, error))
    }

    /// What the last supervisor wrote down, if it can be read.
    pub fn record(&self) -> Option<Record> {
        self.check().ok()?;
        serde_json::from_slice(&fs::read(self.path.join(RECORD)).ok()?).ok()
    }

    /// The process of the supervisor that holds the lab; `None` if nobody does, or somebody else than
    /// this user. 0 if it has not said yet who it is.
    pub fn holder(&self) -> Option<u32> {
        self.check().ok()?;
        let mut file = File::open(self.path.join(LOCK)).ok()?;
        if file.try_lock_shared().is_ok() {
            return None;
        }
        let mut pid = String::new();
        let read = file.read_to_string(&mut pid);
        Some(read.ok().and_then(|_| pid.trim().parse().ok()).unwrap_or(0))
    }

    /// Whether somebody holds the lab and can be talked to. One who is about to begin or to end is
    /// given time to get there.
    pub fn is_served(&self) -> bool {
        let patience = Instant::now() + SETTLE_PATIENCE;
        while self.holder().is_some() {
            if UnixStream::connect(self.socket()).is_ok() || Instant::now() >= patience {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Whether the lab is about to end, so that nobody can be talked to any more. Waits for that end.
    pub fn is_ending(&self) -> bool {
        let begin = Instant::now();
        while UnixStream::connect(self.socket()).is_ok() {
            if begin.elapsed() >= LOCK_PATIENCE {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        while self.holder().is_some() {
            if begin.elapsed() >= SETTLE_PATIENCE {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// Takes the lab.
    ///
    /// # Errors
    /// [`Exit::Locked`] if somebody has it, [`Exit::Failed`] if the directory cannot be made.
    pub fn lock(&self) -> Result<Lock, Error> {
        let failed = |error| unusable(&self.path, error);
        let root = self.path.parent().unwrap_or(Path::new("."));
        create_private(root).map_err(failed)?;
        // Before anything is put there.
        self.check()?;
        let patience = Instant::now() + LOCK_PATIENCE;
        loop {
            create_private(&self.path).map_err(failed)?;
            self.check()?;
            let path = self.path.join(LOCK);
            let mut open = OpenOptions::new();
            open.read(true).write(true).create(true).truncate(false);
            let mut file = match open.open(&path) {
                // The last holder has just removed the directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.map_err(failed)?,
            };
            match file.try_lock() {
                Ok(()) if is_the_file_at(&file, &path).unwrap_or(false) => {
                    // A supervisor that was killed leaves its socket, and its log; they must not be
                    // taken for ours.
                    let _ = fs::remove_file(self.socket());
                    let _ = fs::remove_file(self.log());
                    file.set_len(0).map_err(failed)?;
                    writeln!(file, "{}", std::process::id()).map_err(failed)?;
                    return Ok(Lock { directory: self.clone(), file });
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() >= patience => {
                    let message = format!("lab `{}` runs already", self.name());
                    let help = format!("labctl down --lab {} ends it", self.name());
                    return Err(Error::new(Exit::Locked, message).help(help));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }
}

fn unusable(path: &Path, error: io::Error) -> Error {
    Error::new(Exit::Failed, format!("cannot use {}", path.display()))
        .because(error)
        .help("LABCTL_STATE_DIR names another directory for running labs")
}

/// A lab's directory in the hands of its supervisor. Dropping it removes the directory, unless a panic
/// has left its report there.
#[derive(Debug)]
pub struct Lock {
    directory: LabDirectory,
    file: File,
}

impl Lock {
    /// The directory.
    pub fn directory(&self) -> &LabDirectory {
        &self.directory
    }

    /// Whether the directory is there and its own. Somebody may have removed it, and somebody else
    /// may have begun a lab of the same name since.
    pub fn is_held(&self) -> bool {
        is_the_file_at(&self.file, &self.directory.path.join(LOCK))
            .unwrap_or_else(|error| error.kind() != io::ErrorKind::NotFound)
    }

    /// Writes down whose lab it is.
    ///
    /// # Errors
    /// If the disk is full, for instance.
    pub fn record(&self, record: &Record) -> io::Result<()> {
        fs::write(self.directory.path.join(RECORD), serde_json::to_vec(record)?)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The report of a bug is in the log. The lab is dead then, as if its supervisor had been killed.
        if thread::panicking() && self.directory.last_words().is_some() {
            return;
        }
        if !self.is_held() {
            return;
        }
        // The lock is held until the file closes: nobody can have begun to use the directory. What
        // cannot be removed is found by the next `up` and overwritten.
        let _ = fs::remove_dir_all(&self.directory.path);
    }
}

/// Creates a directory for this user alone, if it is not there.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).recursive(false).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).recursive(true).create(path)
        }
        created => created,
    }
}

/// That the directory of all labs is this user's, or the user's choice.
fn check_root(root: &Path) -> io::Result<()> {
    match chosen_root().is_some_and(|chosen| chosen == root) {
        true => Ok(()),
        false => check_private(root),
    }
}

/// That a directory is this user's and nobody else may write to it, if it is there. In /tmp somebody
/// else could have made it.
fn check_private(path: &Path) -> io::Result<()> {
    let refused = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.is_dir() || found.uid() != user() => {
            refused("it is not a directory of this user")
        }
        Ok(found) if found.mode() & 0o022 != 0 => refused("others than this user may write to it"),
        Ok(_) => Ok(()),
    }
}

/// Whether nobody has removed or replaced the file since it was opened.
fn is_the_file_at(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn scratch(test: &str) -> LabDirectory {
        let root = env::temp_dir().join(format!("labctl-{test}-{}", std::process::id()));
        LabDirectory { path: root.join("lab") }
    }

    fn remove(lab: &LabDirectory) {
        fs::remove_dir_all(lab.path().parent().unwrap()).unwrap();
    }

    #[test]
    fn a_lab_is_held_until_its_lock_is_dropped() {
        let lab = scratch("lock");
        assert_eq!(lab.holder(), None, "there is no directory yet");
        let lock = lab.lock().unwrap();
        assert_eq!(lab.holder(), Some(std::process::id()));
        let record = Record { file: "/x.lab.yaml".into(), started_ms: 1 };
        lock.record(&record).unwrap();
        assert_eq!(lab.record(), Some(record));
        assert_eq!(lab.lock().unwrap_err().exit(), Exit::Locked);
        drop(lock);
        assert!(!lab.path().exists());
        drop(lab.lock().unwrap());
        fs::remove_dir(lab.path().parent().unwrap()).unwrap();
    }

    #[test]
    fn a_lock_without_its_directory_leaves_the_next_ones_alone() {
        let lab = scratch("gone");
        let lost = lab.lock().unwrap();
        fs::remove_dir_all(lab.path()).unwrap();
        assert!(!lost.is_held());
        let next = lab.lock().unwrap();
        drop(lost);
        assert!(next.is_held() && lab.path().exists());
        drop(next);
        fs::remove_dir(lab.path().parent().unwrap()).unwrap();
    }

    #[test]
    fn what_a_killed_supervisor_leaves_is_taken_over() {
        let lab = scratch("stale");
        create_private(lab.path()).unwrap();
        fs::write(lab.path().join(LOCK), "999999999\n").unwrap();
        fs::write(lab.socket(), "").unwrap();
        assert_eq!(lab.holder(), None);
        let lock = lab.lock().unwrap();
        assert!(!lab.socket().exists());
        let listener = UnixListener::bind(lab.socket()).unwrap();
        assert!(lab.is_served());
        drop(listener);
        let soon = thread::spawn(|| {
            thread::sleep(Duration::from_millis(50));
            drop(lock);
        });
        assert!(!lab.is_served(), "it was about to end");
        soon.join().unwrap();
        fs::remove_dir(lab.path().parent().unwrap()).unwrap();
    }
    /// In /tmp anybody can make a directory of the name that ours would have.
    #[test]
    fn what_others_could_have_made_is_not_looked_at() {
        let lab = scratch("foreign");
        let root = lab.path().parent().unwrap().to_owned();
        let lock = lab.lock().unwrap();
        lock.record(&Record { file: "/x.lab.yaml".into(), started_ms: 1 }).unwrap();
        let _listener = UnixListener::bind(lab.socket()).unwrap();
        let refused = |place: &Path| {
            let place = place.display();
            assert!(lab.check().is_err() && !lab.is_served(), "{place}");
            assert_eq!((lab.holder(), lab.record()), (None, None), "{place}");
            assert_eq!(lab.lock().unwrap_err().exit(), Exit::Failed, "{place}");
        };
        for place in [lab.path(), &root] {
            fs::set_permissions(place, Permissions::from_mode(0o770)).unwrap();
            refused(place);
            fs::set_permissions(place, Permissions::from_mode(0o700)).unwrap();
            // Only root can give something away.
            if chown(place, Some(65534), None).is_ok() {
                refused(place);
                chown(place, Some(user()), None).unwrap();
            }
        }
        assert_eq!(lab.holder(), Some(std::process::id()), "nothing else was wrong");
        drop(lock);
        remove(&lab);
    }

    #[test]
    fn a_panic_leaves_its_report() {
        let lab = scratch("panic");
        let crash = |log: bool| {
            let lock = lab.lock().unwrap();
            let crashed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _lock = lock;
                if log {
                    fs::write(lab.log(), "a bug").unwrap();
                }
                panic!("deliberate");
            }));
            assert!(crashed.is_err());
        };
        crash(false);
        assert!(!lab.path().exists(), "there is nothing to be read");
        crash(true);
        assert_eq!((lab.holder(), lab.last_words()), (None, Some(lab.log())));
        // The next one begins with a log of its own.
        let lock = lab.lock().unwrap();
        assert_eq!(lab.last_words(), None);
        drop(lock);
        assert!(!lab.path().exists());
        remove(&lab);
    }
}
