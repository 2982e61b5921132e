//! How files are made, chosen, opened and left behind.

use std::path::PathBuf;

use crate::base::shape::FileService;

/// How files are made, chosen, opened and left behind.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of fio")]
pub struct FilesSpec {
    /// `file_service_type`: which file serves the next I/O.
    pub service: FileService,
    /// `openfiles`: files of a worker that may be open at once; as many as it has where absent.
    pub openfiles: Option<u32>,
    /// `filename_format`: how files are named that `filename` does not list.
    pub filename_format: Option<String>,
    /// `opendir`: the directory whose files are read.
    pub opendir: Option<PathBuf>,
    /// `filesize`: smallest and largest size of a file in bytes.
    pub filesize: Option<(u64, u64)>,
    /// `filetype`: what every target must be.
    pub filetype: Option<FileType>,
    /// `file_append`: work behind the end of the files.
    pub append: bool,
    /// `overwrite`: files have their blocks before they are written.
    pub overwrite: bool,
    /// `allow_file_create`: files that are not there may be made.
    pub allow_create: bool,
    /// `create_on_open`: files are made empty.
    pub create_on_open: bool,
    /// `create_serialize`: files are laid out one at a time.
    pub create_serialize: bool,
    /// `create_fsync`: flush files that were laid out.
    pub create_fsync: bool,
    /// `pre_read`: into the page cache before the start.
    pub pre_read: bool,
    /// `fadvise_hint`: what the kernel is told of the pattern.
    pub advice: FileAdvice,
    /// `fsync_on_close`: flush files before they are closed.
    pub fsync_on_close: bool,
    /// `end_syncfs`: flush the file systems at the end.
    pub end_syncfs: bool,
    /// `sync_file_range`: flags of sync_file_range(2), and after how many writes.
    pub sync_range: Option<SyncRange>,
    /// `unlink`: remove the files at the end.
    pub unlink: bool,
    /// `uncached`: RWF_DONTCACHE with every I/O.
    pub uncached: bool,
    /// `nowait`: RWF_NOWAIT with every I/O.
    pub nowait: bool,
    /// `force_async`: every so many I/Os one is left to the kernel's workers; 0 none.
    pub force_async: u32,
}

impl Default for FilesSpec {
    fn default() -> FilesSpec {
        FilesSpec {
            service: FileService::default(),
            openfiles: None,
            filename_format: None,
            opendir: None,
            filesize: None,
            filetype: None,
            append: false,
            overwrite: false,
            allow_create: true,
            create_on_open: false,
            create_serialize: true,
            create_fsync: true,
            pre_read: false,
            advice: FileAdvice::Pattern,
            fsync_on_close: false,
            end_syncfs: false,
            sync_range: None,
            unlink: false,
            uncached: false,
            nowait: false,
            force_async: 0,
        }
    }
}

/// fio's `sync_file_range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncRange {
    /// `wait_before`: wait for what is on its way already.
    pub wait_before: bool,
    /// `write`: start to write what is not.
    pub write: bool,
    /// `wait_after`: wait for all of it.
    pub wait_after: bool,
    /// After this many writes, at least 1.
    pub every: u32,
}

/// fio's `filetype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    File,
    /// A block device.
    Block,
    /// A character device.
    Char,
}

/// fio's `fadvise_hint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAdvice {
    /// Nothing.
    None,
    /// What `rw` says.
    Pattern,
    /// POSIX_FADV_SEQUENTIAL.
    Sequential,
    /// POSIX_FADV_RANDOM.
    Random,
    /// POSIX_FADV_NOREUSE.
    NoReuse,
}
