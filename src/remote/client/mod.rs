//! The client: drives runs on one or several servers, and keeps what they promise.

use std::path::PathBuf;
use std::time::Duration;

use crate::job::JobSpec;
use crate::report::Report;
use crate::run::Progress;

use super::address::Address;

/// What is to be done on which servers.
#[derive(Clone, Debug)]
pub struct Order {
    /// At least one.
    pub servers: Vec<Target>,
    /// Options of the command line, for all jobs.
    pub overrides: Vec<(String, String)>,
    /// Only these jobs; all without.
    pub sections: Vec<String>,
    /// Refuse jobs that write.
    pub readonly: bool,
    /// Devices whose contents may be destroyed although they carry a signature.
    pub destroy: Vec<String>,
    /// Tell how idle the servers' CPUs were; true: also each by itself.
    pub idle_profile: Option<bool>,
    /// Log the bandwidth of all jobs together, on the servers.
    pub bandwidth_log: Option<String>,
    /// Tell violations one by one.
    pub findings: bool,
    /// The directory of certificates, if not the usual one.
    pub keys: Option<PathBuf>,
    /// How long to try to reach a server.
    pub connect_within: Duration,
    /// A server that is silent for so long has vanished.
    pub silence: Duration,
    /// How often progress is told.
    pub progress_interval: Duration,
    /// How often the statistics so far are told; never without.
    pub status_interval: Option<Duration>,
}

/// One server, and what it is to do.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub address: Address,
    /// What it is to do.
    pub work: Work,
}

/// What a server is to do.
#[derive(Clone, Debug)]
pub enum Work {
    /// Run jobs.
    Run {
        /// Name and text of each job file.
        job_files: Vec<(String, String)>,
        /// The jobs in them, as this side reads them.
        jobs: Vec<JobSpec>,
        /// Where snapshots go, but for the server's name: `dir/powercut.state` stands for
        /// `dir/powercut.dut1.state`.
        state: PathBuf,
    },
    /// Go on with a run, or watch it.
    Attach {
        /// Its run id, or how it begins; empty: the only one that runs, or the last one.
        run: String,
        /// Watch only.
        watch: bool,
        /// Where snapshots go: a directory.
        state_dir: PathBuf,
    },
}

/// Who is told what happens. `server` counts [`Order::servers`].
pub trait Watcher {
    /// Something the user should read.
    fn note(&mut self, server: usize, text: &str);
    /// The last progress of each server, several times a second.
    fn progress(&mut self, servers: &[Option<Progress>]);
    /// The statistics so far of each server: asked for by signal or interval.
    fn so_far(&mut self, reports: &[Option<Report>]);
    /// A violation, as a line of JSON.
    fn finding(&mut self, server: usize, line: &str);
}

/// What became of a server's run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The server.
    pub address: Address,
    /// Its run's id, if there was one.
    pub run: Option<String>,
    /// What was measured; of a server that vanished, what had arrived.
    pub report: Option<Report>,
    /// What went wrong, if anything did. That a machine vanishes behind a trigger is nothing wrong.
    pub failure: Option<Failure>,
}

/// What went wrong with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which of the exit codes it is.
    pub kind: FailureKind,
    /// What, where, what to do.
    pub message: String,
}

/// The kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The jobs are wrong, or not allowed there (exit 2).
    BadJob,
    /// The server's machine refuses, or the server cannot be reached, disagrees or vanished (exit 4).
    Environment,
    /// An unsafe target (exit 6).
    Unsafe,
}
