//! Files that are there whole or not at all, whatever happens while they are written.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What becomes of a file that is at the place already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Existing {
    /// It stays.
    Keep,
    /// It is replaced, once the new one is complete.
    Replace,
}

/// Writes a file. A reader sees the old one or the new one, never half of one; so does whoever looks
/// after the disk was full. What is no regular file, as /dev/stdout, is written to.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if there is one that stays; or why it cannot be written.
pub fn write(path: &Path, contents: &[u8], existing: Existing) -> io::Result<()> {
    if existing == Existing::Keep && path.symlink_metadata().is_ok() {
        // Known without a place for a new one, which a full disk has not.
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let found = fs::metadata(path);
    if existing == Existing::Replace && found.as_ref().is_ok_and(|found| !found.is_file()) {
        return File::options().write(true).open(path)?.write_all(contents);
    }
    // Through links: the file is replaced, not what points to it.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    // The umask takes from it what a new file has not.
    let permissions = found.map_or_else(|_| Permissions::from_mode(0o666), |old| old.permissions());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".labctl-").permissions(permissions);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = builder.tempfile_in(directory.unwrap_or(Path::new(".")))?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    match existing {
        Existing::Keep => file.persist_noclobber(path)?,
        Existing::Replace => file.persist(path)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_exists_is_kept_or_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(&path, b"one", Existing::Keep).unwrap();
        let error = write(&path, b"two", Existing::Keep).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(&path, b"three", Existing::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn links_and_permissions_stay() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| directory.path().join(name));
        fs::write(&file, "one").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o604)).unwrap();
        symlink("file", &link).unwrap();
        write(&link, b"two", Existing::Replace).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o604);
    }

    #[test]
    fn devices_are_written_to() {
        write(Path::new("/dev/null"), b"text", Existing::Replace).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let error = write(Path::new("/dev/full"), b"text", Existing::Replace).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
