//! What a job may touch on the server: what server.toml allows, and nothing else.
//!
//! [`RULES`] decides for each option that can name a file, a device or a command; a test holds it against
//! the table of options. It is asked three times: of the text, before it is parsed, as patterns are read
//! from files then; of the jobs; and of the targets, when logs have said which there are.
//!
//! Targets are pinned before they are judged: what is asked for its device number, its names and its links is
//! the open file that the run will use, whatever its name leads to by then. Other files are judged by name,
//! and between a look and the use of a name, the name could come to lead elsewhere. Who could do that? Not
//! jobs: they make regular files and directories, and no links or devices. The directory, and all above
//! it, must belong to the server's user, and so must what server.toml's commands do in it be trusted.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::base::host::block::{BlockDevice, DeviceNumber, by_number};
use crate::base::host::pin::{Identity, Pin, Pins};
use crate::base::host::{Sysfs, printable};
use crate::base::transport_id::TransportId;
use crate::engine::{SPDK, Targets};
use crate::job::JobSpec;
use crate::job::spec::LogName;
use crate::remote::wire::session;
use crate::run::PlannedTarget;

use super::locks::Subject;

/// What is done about an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Names no file, device or command.
    Text,
    /// Its targets are judged when all are known ([`Policy::check_target`]), and before by name.
    Target,
    /// A file or directory, which must lie below the server's directory.
    Path,
    /// Files whose names begin so.
    Prefix,
    /// May name files in quotes: judged before the text is parsed.
    Pattern,
    /// A command that the server runs: server.toml lists it.
    Command,
    /// The client's: the server does not look at it.
    Client,
    /// Not for runs on servers.
    Refused,
    /// Judged by its targets: all must be devices that server.toml lists.
    OfDevice,
}

/// All options that take a text.
pub const RULES: &[(&str, Rule)] = &[
    ("name", Rule::Text),
    ("description", Rule::Text),
    ("comm", Rule::Text),
    ("wait_for", Rule::Text),
    ("hostnqn", Rule::Text),
    ("cgroup_io_max", Rule::Text),
    ("sim_faults", Rule::Text),
    ("filename", Rule::Target),
    ("directory", Rule::Path),
    ("filename_format", Rule::Target),
    ("opendir", Rule::Path),
    ("replay_redirect", Rule::Target),
    ("read_iolog", Rule::Path),
    ("write_iolog", Rule::Path),
    ("merge_blktrace_file", Rule::Path),
    ("write_bw_log", Rule::Prefix),
    ("write_lat_log", Rule::Prefix),
    ("write_iops_log", Rule::Prefix),
    ("write_hist_log", Rule::Prefix),
    ("buffer_pattern", Rule::Pattern),
    ("verify_pattern", Rule::Pattern),
    ("mem", Rule::Path),
    ("huge_dir", Rule::Refused),
    ("cgroup", Rule::Refused),
    ("ioscheduler", Rule::OfDevice),
    ("exec_prerun", Rule::Command),
    ("exec_postrun", Rule::Command),
    ("trigger_remote", Rule::Command),
    ("trigger", Rule::Client),
    ("trigger_file", Rule::Client),
    ("state_dir", Rule::Client),
];

/// What server.toml allows.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Without links.
    directory: PathBuf,
    /// The server's own, which may lie below it.
    own: Vec<PathBuf>,
    devices: Vec<String>,
    commands: Vec<String>,
}

impl Policy {
    /// Reads what the server sent.
    ///
    /// # Errors
    /// If the directory is not there.
    pub fn new(told: &session::Policy, run_directory: &Path) -> Result<Policy, String> {
        let directory = fs::canonicalize(&told.directory).map_err(|error| {
            format!(
                "`directory` of server.toml, {}, cannot be looked at: {error}",
                printable(&told.directory)
            )
        })?;
        let own = [run_directory.parent(), Some(Path::new(&told.lock_directory))];
        let own = own.into_iter().flatten().filter_map(|path| fs::canonicalize(path).ok());
        // One that holds all of it would leave nothing.
        let own = own.filter(|path| !directory.starts_with(path));
        let own = own.chain(told.own.iter().filter_map(|path| where_it_is(Path::new(path)))).collect();
        Ok(Policy { directory, own, devices: told.devices.clone(), commands: told.commands.clone() })
    }

    /// Where jobs' relative names begin.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Judges what parsing would read: files that patterns name.
    ///
    /// # Errors
    /// Which one is not allowed.
    pub fn check_text(
        &self,
        files: &[(String, String)],
        overrides: &[(String, String)],
    ) -> Result<(), String> {
        for (name, value) in overrides {
            if patterns().any(|pattern| pattern == name) {
                self.check_pattern(name, value)?;
            }
        }
        for (file, text) in files {
            match text.parse::<toml::Table>() {
                Ok(table) => self.check_table(&table)?,
                // The parser tells all that is wrong with it, unless it could be made to read a file on the way.
                Err(_) if !could_name_files(text) => {}
                Err(why) => return Err(format!("{}: {why}", printable(file))),
            }
        }
        Ok(())
    }

    fn check_table(&self, table: &toml::Table) -> Result<(), String> {
        for (name, value) in table {
            let rule = RULES.iter().find(|(known, _)| known == name);
            if rule.is_some_and(|(_, rule)| *rule == Rule::Pattern) {
                for text in strings(value) {
                    self.check_pattern(name, text)?;
                }
            }
            for table in tables(value) {
                self.check_table(table)?;
            }
        }
        Ok(())
    }

    /// Every text between two single quotes, in whichever order they belong together.
    fn check_pattern(&self, option: &str, value: &str) -> Result<(), String> {
        let parts: Vec<&str> = value.split('\'').collect();
        let inner = parts.get(1..parts.len().saturating_sub(1)).unwrap_or_default();
        inner.iter().try_for_each(|path| self.check_path(Path::new(path), option))
    }

    /// Judges the jobs, but for what is only known of their targets later.
    ///
    /// # Errors
    /// What is not allowed, and which line of server.toml would allow it.
    pub fn check_jobs(&self, jobs: &[JobSpec], bandwidth_log: &str) -> Result<(), String> {
        for job in jobs {
            self.check_job(job).map_err(|why| format!("job `{}`: {why}", printable(&job.name)))?;
        }
        if bandwidth_log.is_empty() { Ok(()) } else { self.check_prefix(bandwidth_log, "bandwidth-log") }
    }

    fn check_job(&self, job: &JobSpec) -> Result<(), String> {
        for (option, command) in [
            ("exec_prerun", &job.host.prerun),
            ("exec_postrun", &job.host.postrun),
            ("trigger_remote", &job.trigger.remote),
        ] {
            if let Some(command) = command {
                self.check_command(command, option)?;
            }
        }
        if job.host.group.name.is_some() {
            return Err("`cgroup` is not for runs on servers: start the server in the group".to_owned());
        }
        if job.spdk.huge_dir.is_some() {
            return Err("`huge_dir` is not for runs on servers: leave it out, and SPDK finds one".to_owned());
        }
        let replay = &job.replay;
        let paths = [
            ("directory", job.directory.as_deref()),
            ("opendir", job.files.opendir.as_deref()),
            ("write_iolog", replay.write.as_deref()),
            ("merge_blktrace_file", replay.merge_into.as_deref()),
            ("mem", job.host.memory.path.as_deref()),
        ];
        for (option, path) in paths.into_iter().filter_map(|(option, path)| Some((option, path?))) {
            self.check_path(path, option)?;
        }
        replay.read.iter().try_for_each(|path| self.check_path(Path::new(path), "read_iolog"))?;
        let logs = [
            ("write_bw_log", &job.logs.bandwidth),
            ("write_lat_log", &job.logs.latency),
            ("write_iops_log", &job.logs.iops),
            ("write_hist_log", &job.logs.histogram),
        ];
        for (option, log) in logs {
            if let Some(LogName::Prefix(prefix)) = log {
                self.check_prefix(prefix, option)?;
            }
        }
        self.check_named(job)
    }

    /// The targets that the job itself names: before anything looks at them.
    fn check_named(&self, job: &JobSpec) -> Result<(), String> {
        let kind = match job.ioengine.as_str() {
            "null" | "sim" => Targets::MadeUp,
            SPDK => Targets::Namespaces,
            _ => Targets::Files,
        };
        let folder = job.directory.clone().unwrap_or_default();
        let names = job.filename.iter().chain(&job.replay.rules.redirect);
        for name in names {
            let path = if kind == Targets::Files { folder.join(name) } else { PathBuf::from(name) };
            let changes_disk = job.host.io_scheduler.is_some();
            self.check_target(&PlannedTarget { pin: None, job: job.name.clone(), path, kind, changes_disk })?;
        }
        Ok(())
    }

    fn check_command(&self, command: &str, option: &str) -> Result<(), String> {
        if self.commands.iter().any(|known| known == command) {
            return Ok(());
        }
        Err(format!(
            "`{option}` is none of the commands that the server runs: to allow it, its server.toml has \
             commands = [{}]",
            quoted(command)
        ))
    }

    /// Whether a target may be used; gives what is to be locked, if anything is.
    ///
    /// # Errors
    /// Why not, and which line of server.toml would allow it.
    pub fn check_target(&self, target: &PlannedTarget) -> Result<Option<Subject>, String> {
        match target.kind {
            Targets::MadeUp => Ok(None),
            Targets::Namespaces => self.check_namespace(&target.path.to_string_lossy()).map(Some),
            Targets::Files => {
                let own = || Pins::default().pin(&self.directory.join(&target.path));
                let pin = target.pin.clone().unwrap_or_else(own);
                self.check_file(&target.path, &pin, target.changes_disk).map(Some)
            }
        }
    }

    fn check_namespace(&self, text: &str) -> Result<Subject, String> {
        let id = TransportId::parse(text)?;
        let spelled = |pattern: &str| TransportId::parse(pattern).map(|id| id.to_string());
        let names = [id.to_string(), id.controller(), id.traddr.clone()];
        let allowed = self.devices.iter().any(|pattern| {
            names.iter().any(|name| matches(pattern, name))
                || spelled(pattern).is_ok_and(|pattern| pattern == names[0])
        });
        if allowed {
            return Ok(Subject::Controller(id.controller()));
        }
        Err(self.not_a_device(&names[0], &names[2]))
    }

    fn not_a_device(&self, shown: &str, line: &str) -> String {
        format!(
            "{} is none of the devices that the server allows: to allow it, its server.toml has devices = [{}]",
            printable(shown),
            quoted(line)
        )
    }

    /// Judges what is pinned, which is what the run will use.
    fn check_file(&self, path: &Path, pin: &Pin, changes_disk: bool) -> Result<Subject, String> {
        let failed = |error: io::Error| refusal(path, &error.to_string());
        let file = match pin.existing() {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if let Some(Identity::Device { is_block, number, .. }) = file.as_ref().map(|file| file.identity()) {
            self.check_device(pin, is_block, number)?;
            return Ok(Subject::Device { is_block, number });
        }
        if changes_disk {
            return Err(format!(
                "`ioscheduler` changes a disk, and {} is a file: it goes with targets that are devices",
                shown(path)
            ));
        }
        if file.is_none() && fs::symlink_metadata(pin.path()).is_ok() {
            return Err(refusal(path, "a link that leads nowhere"));
        }
        let uncertain = || match self.real(path) {
            Err(why) if file.is_none() => refusal(path, &why),
            _ => refusal(path, "no path without links leads to it"),
        };
        let real = pin.real().ok_or_else(uncertain)?;
        let links =
            file.map(|file| file.metadata().map(|about| if about.is_file() { about.nlink() } else { 1 }));
        let has_other_names = links.transpose().map_err(failed)?.is_some_and(|links| links > 1);
        self.judge_place(path, &real, "filename", has_other_names)?;
        Ok(Subject::File(real))
    }

    /// By its path, its other names in /dev/disk, or its serial number. A name counts only if it leads to the
    /// device now.
    fn check_device(&self, pin: &Pin, is_block: bool, number: u64) -> Result<(), String> {
        let device =
            if is_block { by_number(&Sysfs::default(), DeviceNumber::from_raw(number)) } else { None };
        let real = pin.canonical();
        let mut names = Vec::new();
        if pin.real().is_some() {
            names.push(real.to_string_lossy().into_owned());
        }
        if is_block {
            names.extend(other_names(DeviceNumber::from_raw(number)));
        }
        let of_device = |device: &BlockDevice| [device.serial.clone(), device.wwid.clone()];
        names.extend(device.iter().flat_map(of_device).flatten());
        if self.devices.iter().any(|pattern| names.iter().any(|name| matches(pattern, name))) {
            return Ok(());
        }
        let serial = device.and_then(|device| device.serial);
        let serial = serial.map(|serial| format!(" (serial {serial})")).unwrap_or_default();
        let real = real.to_string_lossy();
        Err(self.not_a_device(&format!("{real}{serial}"), &real))
    }

    fn check_prefix(&self, prefix: &str, option: &str) -> Result<(), String> {
        self.check_path(Path::new(&format!("{prefix}_")), option)
    }

    fn check_path(&self, path: &Path, option: &str) -> Result<(), String> {
        let real = self.real(path).map_err(|why| refusal(path, &why))?;
        self.lies_within(path, &real, option)
    }

    fn lies_within(&self, path: &Path, real: &Path, option: &str) -> Result<(), String> {
        // The other name may be anywhere.
        let has_other_names = fs::metadata(real).is_ok_and(|file| file.is_file() && file.nlink() > 1);
        self.judge_place(path, real, option, has_other_names)
    }

    /// Whether a path without links lies where jobs have their files.
    fn judge_place(
        &self,
        path: &Path,
        real: &Path,
        option: &str,
        has_other_names: bool,
    ) -> Result<(), String> {
        let directory = self.directory.display();
        if !real.starts_with(&self.directory) {
            return Err(format!(
                "`{option}`: {} does not lie below {directory}, where jobs have their files (`directory` in the \
                 server's server.toml; block devices are for `devices`)",
                shown(path)
            ));
        }
        if self.own.iter().any(|own| real.starts_with(own)) {
            return Err(format!("`{option}`: {} is the server's own: choose another name", shown(path)));
        }
        if has_other_names {
            return Err(format!(
                "`{option}`: {} has another name, which may lie elsewhere (a hard link): copy it",
                shown(path)
            ));
        }
        Ok(())
    }

    /// The path without links, as far as it exists; what does not must be a plain name in what does.
    fn real(&self, path: &Path) -> Result<PathBuf, String> {
        let path = self.directory.join(path);
        match fs::canonicalize(&path) {
            Ok(real) => return Ok(real),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.to_string()),
        }
        if fs::symlink_metadata(&path).is_ok() {
            return Err("a link that leads nowhere".to_owned());
        }
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return Err("it goes up from a directory that is not there".to_owned());
        };
        let parent = path.parent().ok_or("there is nothing above it")?;
        Ok(self.real(parent)?.join(name))
    }
}

/// A path without links but perhaps its last part, which need not be there.
fn where_it_is(path: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
}

/// The options that may name files in their texts.
fn patterns() -> impl Iterator<Item = &'static str> {
    RULES.iter().filter(|(_, rule)| *rule == Rule::Pattern).map(|(name, _)| *name)
}

/// Whether a text that is not TOML could hold a pattern with a file: both may be spelled by escapes.
fn could_name_files(text: &str) -> bool {
    text.contains('\\') || text.contains('\'') && patterns().any(|pattern| text.contains(pattern))
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

fn refusal(path: &Path, why: &str) -> String {
    format!("{} cannot be used: {why}", shown(path))
}

/// As it would stand in server.toml.
fn quoted(text: &str) -> String {
    const MOST: usize = 200;
    toml::Value::from(printable(&text.chars().take(MOST).collect::<String>())).to_string()
}

fn strings(value: &toml::Value) -> Vec<&str> {
    match value {
        toml::Value::String(text) => vec![text],
        toml::Value::Array(items) => items.iter().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

fn tables(value: &toml::Value) -> Vec<&toml::Table> {
    match value {
        toml::Value::Table(table) => vec![table],
        toml::Value::Array(items) => items.iter().flat_map(tables).collect(),
        _ => Vec::new(),
    }
}

/// Names in /dev/disk that lead to the block device of this number.
fn other_names(number: DeviceNumber) -> Vec<String> {
    let entries =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let folders = entries(Path::new("/dev/disk"));
    let names = folders.flat_map(|folder| entries(&folder).collect::<Vec<_>>());
    names
        .filter(|name| DeviceNumber::of_block_path(name) == Some(number))
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// Whether a name is as a pattern says: `*` is any text without `/`, `?` any one character but that.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut here) = (0, 0);
    // The last star, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while here < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, here));
                at += 1;
            }
            Some('?') if name[here] != '/' => (at, here) = (at + 1, here + 1),
            Some(&exact) if exact == name[here] => (at, here) = (at + 1, here + 1),
            _ => match star {
                Some((back, taken)) if name[taken] != '/' => {
                    star = Some((back, taken + 1));
                    (at, here) = (back + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|&left| left == '*')
}

#[cfg(test)]
mod tests;
