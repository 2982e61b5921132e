//! One file of a log.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::base::host::output_file::{self, Start};

/// How much is written at once.
const BUFFER: usize = 256 << 10;

/// A file that lines are added to. What is written ends with a whole line, as far as it can.
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// What the file holds stays.
    appends: bool,
    compresses: bool,
    encoder: Option<GzEncoder<File>>,
    buffer: Vec<u8>,
    /// Bytes of whole lines in the file, and those that it had before.
    whole: u64,
    begun: bool,
    /// Nothing more is written then.
    trouble: Option<String>,
    told: bool,
}

impl LogFile {
    /// Opens it, and leaves it as it is for now.
    ///
    /// # Errors
    /// What, where, and why: a sentence.
    pub fn open(path: &Path, appends: bool, compresses: bool) -> Result<LogFile, String> {
        let failed = |why: &dyn std::fmt::Display| format!("cannot write the log {}: {why}", path.display());
        if let Ok(metadata) = std::fs::metadata(path)
            && !(metadata.is_file() || metadata.file_type().is_char_device())
        {
            return Err(failed(&"it is there, and no file"));
        }
        let start = if appends { Start::Append } else { Start::Keep };
        let file = output_file::open(path, start).map_err(|error| failed(&error))?;
        Ok(LogFile {
            path: path.to_owned(),
            file,
            appends,
            compresses,
            encoder: None,
            buffer: Vec::new(),
            whole: 0,
            begun: false,
            trouble: None,
            told: false,
        })
    }

    /// Empties it, once, unless it is added to.
    pub fn begin(&mut self) {
        if !self.begun && !self.appends && self.file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let emptied = self.file.set_len(0);
            self.check(emptied);
        }
        if !self.begun && self.appends {
            self.whole = self.file.metadata().map_or(0, |metadata| metadata.len());
        }
        self.begun = true;
    }

    /// Adds whole lines.
    pub fn add(&mut self, lines: impl FnOnce(&mut Vec<u8>)) {
        if self.trouble.is_some() {
            return;
        }
        lines(&mut self.buffer);
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
    }

    /// Hands what waits to the kernel, or to the encoder, which keeps some.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let written = self.write();
        if written.is_ok() {
            self.whole += self.buffer.len() as u64;
        }
        self.check(written);
        self.buffer.clear();
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.compresses {
            return self.file.write_all(&self.buffer);
        }
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => GzEncoder::new(self.file.try_clone()?, Compression::fast()),
        };
        self.encoder.insert(encoder).write_all(&self.buffer)
    }

    /// Writes all there is. More may come; compressed, it is another stream in the same file then.
    pub fn end(&mut self) {
        self.flush();
        let is_empty =
            |file: &File| file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
        if self.compresses && self.encoder.is_none() && self.trouble.is_none() && is_empty(&self.file) {
            // What has nothing in it can be unpacked too.
            self.encoder = self.file.try_clone().ok().map(|file| GzEncoder::new(file, Compression::fast()));
        }
        if let Some(encoder) = self.encoder.take() {
            let ended = encoder.finish().map(|_| ());
            self.check(ended);
        }
    }

    /// What went wrong, told once.
    pub fn take_trouble(&mut self) -> Option<String> {
        if std::mem::replace(&mut self.told, self.trouble.is_some()) { None } else { self.trouble.clone() }
    }

    fn check(&mut self, done: io::Result<()>) {
        let Err(error) = done else { return };
        if self.trouble.is_some() {
            return;
        }
        self.trouble = Some(format!("cannot write the log {}: {error}", self.path.display()));
        if let Some(whole) = self.whole_now().filter(|_| !self.compresses) {
            // Half a line is taken for a number too small.
            let _ = self.file.set_len(whole);
        }
    }

    /// How long the file is up to the last whole line, where part of what waits has been written; `None` if
    /// others have changed it.
    fn whole_now(&self) -> Option<u64> {
        let length = self.file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        let written = usize::try_from(length.checked_sub(self.whole)?).ok()?;
        let lines = self.buffer.get(..written)?.iter().rposition(|&byte| byte == b'\n');
        Some(self.whole + lines.map_or(0, |at| at as u64 + 1))
    }
}
