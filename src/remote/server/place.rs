//! The server's directory: ours alone, and nobody else's to write to.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::base::host::printable;
use crate::remote::address::Address;
use crate::remote::settings::Settings;

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

/// Refuses a directory in which jobs would have files by which the server is ruled: its settings, and keys.
///
/// # Errors
/// Which of them lies in the server's directory.
pub fn keep_apart(settings: &Settings) -> Result<(), String> {
    let directory = &settings.directory;
    let directory = fs::canonicalize(directory).map_err(|why| format!("{}: {why}", directory.display()))?;
    let tls = std::path::absolute(&settings.tls).unwrap_or_else(|_| settings.tls.clone());
    for (what, path) in [("server.toml", &settings.file), ("its keys", &tls)] {
        // As it is called, as it is found, and where what it leads to lies.
        let folder = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
        let ways = [Some(path.clone()), folder, fs::canonicalize(path).ok()];
        if ways.into_iter().flatten().any(|way| way.starts_with(&directory)) {
            return Err(format!(
                "{} lies in {}, where jobs have their files, and could change what the server allows ({what}): \
                 give the server another `directory`",
                printable(&path.to_string_lossy()),
                printable(&directory.to_string_lossy())
            ));
        }
    }
    Ok(())
}

/// What is the server's own and may lie in its directory, beside `runs` and `locks`.
pub fn own(settings: &Settings) -> Vec<PathBuf> {
    let mut own = vec![settings.directory.join(LOCK)];
    for socket in settings.listen.iter().filter_map(Address::path) {
        let mut lock = socket.as_os_str().to_owned();
        lock.push(".lock");
        own.extend([socket.to_owned(), PathBuf::from(lock)]);
    }
    own
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

    #[test]
    fn what_rules_the_server_does_not_lie_where_jobs_have_their_files() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for name in ["etc", "data/etc"] {
            fs::create_dir_all(path(name)).unwrap();
            fs::write(path(name).join("server.toml"), "").unwrap();
        }
        std::os::unix::fs::symlink(path("data/etc"), path("link")).unwrap();
        let settings = |file: &str, tls: &str| Settings {
            directory: path("data"),
            tls: path(tls),
            ..Settings::new(path(file))
        };
        assert_eq!(keep_apart(&settings("etc/server.toml", "etc")), Ok(()));
        for (file, tls) in [
            ("data/server.toml", "etc"),
            ("data/etc/server.toml", "etc"),
            ("link/server.toml", "etc"),
            ("etc/server.toml", "data"),
            ("etc/server.toml", "link"),
            ("etc/server.toml", "data/etc"),
        ] {
            let why = keep_apart(&settings(file, tls)).unwrap_err();
            assert!(why.contains("where jobs have their files"), "{file} {tls}: {why}");
        }
    }
}
