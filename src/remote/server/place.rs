//! The server's directory: ours alone, and nobody else's to write to.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::base::host::printable;

/// Held by the one server of a directory.
const LOCK: &str = "server.lock";

/// Takes the directory, and makes it and its `locks` if they are not there.
///
/// # Errors
/// A sentence: it cannot be used, others may write to it, or another server has it.
pub fn take(directory: &Path) -> Result<File, String> {
    let shown = printable(&directory.to_string_lossy());
    if !directory.is_absolute() || directory.to_str().is_none() {
        return Err(format!("`directory` of server.toml must be an absolute path in UTF-8: {shown} is not"));
    }
    let make = |path: &Path| match DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Ok(()) => Ok(()),
        Err(why) => Err(format!("{}: the server's directory cannot be made: {why}", path.display())),
    };
    make(directory)?;
    let directory = fs::canonicalize(directory).map_err(|why| format!("{shown}: {why}"))?;
    check(&directory)?;
    make(&directory.join("locks"))?;
    for own in ["locks", "runs"] {
        let own = directory.join(own);
        if own.exists() {
            check_own(&own)?;
        }
    }
    let path = directory.join(LOCK);
    let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let lock = open.map_err(|why| format!("{}: {why}", path.display()))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|why| match why {
        rustix::io::Errno::WOULDBLOCK => {
            format!(
                "{shown} is in use by another server: end that, or give this one a `directory` of its own"
            )
        }
        why => format!("{}: it cannot be locked: {why}", path.display()),
    })?;
    Ok(lock)
}

/// Whether nobody but root and this user may change what is in it or put another in its place.
fn check(directory: &Path) -> Result<(), String> {
    check_own(directory)?;
    for above in directory.ancestors().skip(1) {
        let meta = fs::metadata(above).map_err(|why| format!("{}: {why}", above.display()))?;
        if meta.mode() & 0o002 != 0 && meta.mode() & 0o1000 == 0 {
            return Err(format!(
                "{} is not safe for a server: anybody may write to {} above it",
                directory.display(),
                above.display()
            ));
        }
    }
    Ok(())
}

fn check_own(directory: &Path) -> Result<(), String> {
    let meta = fs::symlink_metadata(directory).map_err(|why| format!("{}: {why}", directory.display()))?;
    let own = rustix::process::geteuid().as_raw();
    let shown = directory.display();
    if !meta.is_dir() {
        return Err(format!("{shown} is no directory"));
    }
    if meta.uid() != own {
        return Err(format!(
            "{shown} belongs to user {}, and the server is user {own}: chown {own} {shown}",
            meta.uid()
        ));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!(
            "others may write to {shown}, and it holds what runs are judged by: chmod go-w {shown}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_is_taken_once_and_only_if_it_is_nobody_elses_to_write_to() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("a/b");
        let taken = take(&directory).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        let why = take(&directory).unwrap_err();
        assert!(why.contains("in use by another server"), "{why}");
        drop(taken);
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&directory, 0o770);
        let why = take(&directory).unwrap_err();
        assert!(why.contains("chmod go-w"), "{why}");
        mode(&directory, 0o755);
        drop(take(&directory).unwrap());
        mode(&place.path().join("a"), 0o777);
        let why = take(&directory).unwrap_err();
        assert!(why.contains("anybody may write"), "{why}");
        mode(&place.path().join("a"), 0o1777);
        drop(take(&directory).unwrap());
        mode(&directory.join("locks"), 0o777);
        assert!(take(&directory).is_err());
        assert!(take(Path::new("relative")).unwrap_err().contains("absolute"));
    }
}
