//! A socket in the file system, for this machine's root and the server's own user.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

const BACKLOG: i32 = 64;

/// A socket that listens. Dropped, it takes its file away.
pub struct UnixSocket {
    path: PathBuf,
    listener: UnixListener,
    /// Device and inode.
    file: (u64, u64),
    /// Who holds it owns the path: of two servers that find an old file, one may take it away.
    _lock: File,
}

impl UnixSocket {
    pub fn bind(path: &Path) -> io::Result<UnixSocket> {
        check_directory(path)?;
        let lock = lock(path)?;
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Linux makes the file with the socket's own mode, so that there is no moment with another.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let metadata = fs::symlink_metadata(path)?;
        if metadata.mode() & 0o077 != 0 {
            let _ = fs::remove_file(path);
            return Err(io::Error::other("the file system does not keep others from it"));
        }
        socket.listen(BACKLOG)?;
        let file = (metadata.dev(), metadata.ino());
        Ok(UnixSocket { path: path.to_owned(), listener: socket.into(), file, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket, to accept from.
    pub fn listener(&self) -> io::Result<UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let ours = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == self.file;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where anybody may remove files of others, anybody may put a socket into this one's place.
fn check_directory(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    let mode = fs::metadata(directory)?.mode();
    let (is_open, is_sticky) = (mode & 0o002 != 0, mode & 0o1000 != 0);
    if is_open && !is_sticky {
        return Err(io::Error::other(format!(
            "anybody may put another file into the place of a socket in {}: use a directory of your own, such as \
             $XDG_RUNTIME_DIR or /run",
            directory.display()
        )));
    }
    Ok(())
}

fn lock(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&name)
        .map_err(|why| io::Error::new(why.kind(), format!("{}: {why}", Path::new(&name).display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another server listens there")),
        Err(TryLockError::Error(why)) => Err(why),
    }
}

/// Takes away what a server has left that was killed: a socket that nobody answers on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(why),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("there is a file that is no socket: remove it, or listen elsewhere"));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full queue would make it wait.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(why) if why.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(why) if why.kind() != ErrorKind::WouldBlock => Err(why),
        _ => Err(io::Error::other("somebody listens there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_its_owners_alone_and_goes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = UnixSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let why = UnixSocket::bind(&path).err().unwrap().to_string();
        assert!(why.contains("another server"), "{why}");
        drop(socket);
        assert!(!path.exists());
        UnixSocket::bind(&path).unwrap();
    }

    #[test]
    fn a_directory_in_which_anybody_may_replace_the_socket_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        for (mode, is_refused) in [(0o777, true), (0o1777, false), (0o755, false)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            let why = UnixSocket::bind(&path).err().map(|why| why.to_string()).unwrap_or_default();
            assert_eq!(why.contains("anybody may put another file"), is_refused, "{mode:o}: {why}");
        }
    }

    #[test]
    fn only_a_socket_that_nobody_answers_on_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        // Without a lock: another program's.
        let other = UnixListener::bind(&path).unwrap();
        let why = UnixSocket::bind(&path).err().unwrap().to_string();
        assert!(why.contains("somebody listens"), "{why}");
        drop(other);
        assert!(path.exists());
        drop(UnixSocket::bind(&path).unwrap());
        fs::write(&path, "data").unwrap();
        let why = UnixSocket::bind(&path).err().unwrap().to_string();
        assert!(why.contains("no socket"), "{why}");
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }

    #[test]
    fn what_another_has_put_into_its_place_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = UnixSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "data").unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
