//! What several servers found, each by itself and all together. Knows no sockets: names and reports in,
//! bytes out.
//!
//! One server is reported as a run on this machine is; JSON says besides which `hostname` and `port` each job
//! ran on. Several are reported one after the other, then together. *Together* means: counts, histograms,
//! errors and verdicts are merged, and percentiles are those of the merged histograms. A rate is the sum of
//! the servers' rates, and a server's rate is what its jobs moved over its own time, from the first start to
//! the last end of the jobs that moved it: servers work side by side, and their clocks have nothing to do with
//! each other. Where one has ended before another, the sum is more than all of them moved in the whole time.

mod json;
mod text;
mod together;

#[cfg(test)]
mod tests;

use super::{Format, Report};

/// The results of a run on servers, or of a run so far.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Milliseconds since 1970, by this machine's clock, when this was put together.
    pub time_unix_ms: u64,
    /// When the run was ordered.
    pub started_unix_ms: u64,
    /// Whether it is still going on.
    pub unfinished: bool,
    /// At least one, in the order of the command line.
    pub servers: Vec<ServerReport>,
}

/// What came from one server.
#[derive(Clone, Debug)]
pub struct ServerReport {
    /// As the user calls it.
    pub name: String,
    /// Its host name or address, or the path of its socket.
    pub host: String,
    /// Its port; 0 of a unix socket, as in fio.
    pub port: u16,
    /// The run's id there, if there was a run.
    pub run: Option<String>,
    /// The names of the jobs that it was to do, where that is known.
    pub jobs: Vec<String>,
    /// What was measured; of a server that failed, what had arrived.
    pub report: Option<Report>,
    /// What went wrong.
    pub failure: Option<ServerFailure>,
}

/// What went wrong with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFailure {
    /// fio's `error` for its jobs: an errno.
    pub errno: i32,
    /// What, where, what to do.
    pub message: String,
}

impl ServerReport {
    /// Its place with the port: `dut1:8765`, `[::1]:8765`, or the path of its socket.
    #[must_use]
    pub fn place(&self) -> String {
        match (self.port, self.host.contains(':')) {
            (0, _) => self.host.clone(),
            (port, true) => format!("[{}]:{port}", self.host),
            (port, false) => format!("{}:{port}", self.host),
        }
    }
}

impl Fleet {
    /// What the reader should know before believing a number, with the server that says it in front.
    fn notes(&self) -> Vec<String> {
        let of = |server: &ServerReport| {
            let failed =
                server.failure.as_ref().map(|why| format!("{}: FAILED: {}", server.name, why.message));
            let notes = server.report.iter().flat_map(|report| &report.notes);
            failed.into_iter().chain(notes.map(|note| format!("{}: {note}", server.name))).collect::<Vec<_>>()
        };
        self.servers.iter().flat_map(of).collect()
    }

    fn failed(&self) -> impl Iterator<Item = &ServerReport> {
        self.servers.iter().filter(|server| server.failure.is_some())
    }
}

/// The report of all servers in one format, ending in a newline. Of one server without a report there is
/// nothing to say.
#[must_use]
pub fn render(format: &Format, fleet: &Fleet) -> String {
    if let [only] = fleet.servers.as_slice()
        && only.report.is_none()
    {
        return String::new();
    }
    match format.name {
        "json" => json::render(fleet, false),
        "json+" => json::render(fleet, true),
        _ => text::render(fleet),
    }
}
