//! A file system with one file, the drive, and a name that cuts its power when it is looked up.
//!
//! Commands stay in flight until a thread completes them, one at a time and in random order. It waits until as
//! many are in flight as the run can have, or for a moment: then the run has seen the end of all others, and the
//! drive notes that.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};

use super::drive::{Arrival, Drive, Op, Random};

/// The name of the drive.
pub const DRIVE: &str = "drive";
/// Who looks up this name cuts the power.
pub const CUT: &str = "cut";
/// How long a command waits for others to be in flight beside it.
const MOMENT: Duration = Duration::from_micros(300);
/// What a command fails with that finds no power.
const NO_POWER: Errno = Errno::ENODEV;
const ROOT: u64 = 1;
const FILE: u64 = 2;
const FOREVER: Duration = Duration::from_secs(3600);

enum Reply {
    Data(ReplyData, usize, usize),
    Written(ReplyWrite, u32),
    Empty(ReplyEmpty),
}

impl Reply {
    fn fail(self, why: Errno) {
        match self {
            Reply::Data(reply, ..) => reply.error(why),
            Reply::Written(reply, _) => reply.error(why),
            Reply::Empty(reply) => reply.error(why),
        }
    }

    fn succeed(self, drive: &Drive) {
        match self {
            Reply::Data(reply, offset, len) => reply.data(&drive.read(offset, len)),
            Reply::Written(reply, len) => reply.written(len),
            Reply::Empty(reply) => reply.ok(),
        }
    }
}

/// A drive, and the commands in flight.
struct State {
    drive: Drive,
    in_flight: Vec<(usize, Reply)>,
    random: Random,
    ends: bool,
}

impl State {
    fn cut(&mut self) {
        let numbers: Vec<usize> = self.in_flight.iter().map(|(number, _)| *number).collect();
        self.drive.cut(&numbers);
        self.in_flight.drain(..).for_each(|(_, reply)| reply.fail(NO_POWER));
    }
}

struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, op: Op, (offset, bytes): (u64, &[u8]), fua: bool, request: &Request, reply: Reply) {
        let mut state = self.lock();
        let (number, arrival) = state.drive.arrive(op, offset as usize, bytes, fua, request.pid());
        match arrival {
            Arrival::Refused => reply.fail(NO_POWER),
            Arrival::InFlight => state.in_flight.push((number, reply)),
            Arrival::PowerCut => {
                state.in_flight.push((number, reply));
                state.cut();
            }
        }
        self.arrived.notify_one();
    }

    /// Completes commands until the end.
    fn complete(&self) {
        let mut state = self.lock();
        while !state.ends {
            let count = state.in_flight.len();
            if count < state.drive.plan.depth.max(1) {
                let wait = if count == 0 { FOREVER } else { MOMENT };
                let waited = self.arrived.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
                state = waited.0;
                if count == 0 || state.in_flight.len() != count {
                    continue;
                }
            } else {
                state.drive.is_full();
            }
            let which = state.random.below(count);
            let (number, reply) = state.in_flight.swap_remove(which);
            if state.drive.finish(number) {
                reply.succeed(&state.drive);
            } else {
                reply.fail(Errno::EIO);
            }
        }
    }
}

struct OneFile(Arc<Shared>);

impl OneFile {
    fn attributes(&self, number: u64) -> FileAttr {
        let is_root = number == ROOT;
        let size = if is_root { 0 } else { self.0.lock().drive.size() as u64 };
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_root { FileType::Directory } else { FileType::RegularFile },
            perm: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 512,
            flags: 0,
        }
    }
}

impl Filesystem for OneFile {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == CUT {
            self.0.lock().cut();
        }
        if name == DRIVE {
            reply.entry(&FOREVER, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _file: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(number.0));
    }

    fn open(&self, _request: &Request, _number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        request: &Request,
        _number: INodeNo,
        _file: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let end = self.0.lock().drive.size();
        let len = end.saturating_sub(offset as usize).min(size as usize);
        self.0.take(Op::Read, (offset, &[]), false, request, Reply::Data(reply, offset as usize, len));
    }

    fn write(
        &self,
        request: &Request,
        _number: INodeNo,
        _file: FileHandle,
        offset: u64,
        data: &[u8],
        _write: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let fua = flags.0 & libc::O_DSYNC != 0;
        self.0.take(Op::Write, (offset, data), fua, request, Reply::Written(reply, data.len() as u32));
    }

    fn fsync(&self, request: &Request, _number: INodeNo, _file: FileHandle, _data: bool, reply: ReplyEmpty) {
        self.0.take(Op::Flush, (0, &[]), false, request, Reply::Empty(reply));
    }

    fn fallocate(
        &self,
        request: &Request,
        _number: INodeNo,
        _file: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode & libc::FALLOC_FL_PUNCH_HOLE == 0 {
            return reply.ok();
        }
        let zeros = vec![0; length as usize];
        self.0.take(Op::Trim, (offset, &zeros), false, request, Reply::Empty(reply));
    }
}

/// A drive behind the kernel's file system.
pub struct Mounted {
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
    completer: Option<JoinHandle<()>>,
}

impl Mounted {
    pub fn new(at: &Path, bytes: usize, seed: u64) -> io::Result<Mounted> {
        let state =
            State { drive: Drive::new(bytes), in_flight: Vec::new(), random: Random(seed), ends: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), arrived: Condvar::new() });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("power-cut".to_owned())];
        let session = fuser::spawn_mount(OneFile(Arc::clone(&shared)), at, &config)?;
        let completer = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.complete())
        };
        Ok(Mounted { shared, session: Some(session), completer: Some(completer) })
    }

    /// Looks at the drive, or changes it, between two runs.
    pub fn drive<T>(&self, look: impl FnOnce(&mut Drive) -> T) -> T {
        look(&mut self.shared.lock().drive)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.shared.lock().ends = true;
        self.shared.arrived.notify_all();
        if let Some(completer) = self.completer.take() {
            let _ = completer.join();
        }
        drop(self.session.take());
    }
}
