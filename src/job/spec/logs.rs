//! What is logged while the job runs, in fio's formats.

/// What is logged while the job runs, in fio's formats.
#[derive(Clone, Debug, PartialEq)]
pub struct LogsSpec {
    /// `write_bw_log`.
    pub bandwidth: Option<LogName>,
    /// `write_lat_log`: three files.
    pub latency: Option<LogName>,
    /// `write_iops_log`.
    pub iops: Option<LogName>,
    /// `write_hist_log`.
    pub histogram: Option<LogName>,
    /// `log_avg_msec` in nanoseconds; 0 logs every I/O.
    pub window_ns: u64,
    /// `log_window_value`.
    pub window_value: WindowValue,
    /// `log_hist_msec` in nanoseconds; 0 logs none.
    pub histogram_ns: u64,
    /// `log_hist_coarseness`: 2 to the power of this many bins become one.
    pub coarseness: u32,
    /// `log_offset`.
    pub offset: bool,
    /// `log_prio`.
    pub priority: bool,
    /// `log_issue_time`.
    pub issue_time: bool,
    /// `log_entries`: how many I/Os a worker may be ahead of the thread that writes.
    pub entries: u32,
    /// `log_alternate_epoch`.
    pub alternate_epoch: bool,
    /// `log_alternate_epoch_clock_id`: a clock of clock_gettime(2).
    pub clock_id: u32,
    /// `log_store_compressed`.
    pub compressed: bool,
    /// `log_compression_cpus`: where the thread that writes the logs may run, rising.
    pub cpus: Option<Vec<u32>>,
    /// `per_job_logs`: each worker has files of its own.
    pub per_job: bool,
    /// `bwavgtime` in nanoseconds.
    pub bandwidth_interval_ns: Option<u64>,
    /// `iopsavgtime` in nanoseconds.
    pub iops_interval_ns: Option<u64>,
}

/// What the names of a log's files begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogName {
    /// The name of the job.
    Job,
    /// This.
    Prefix(String),
}

/// fio's `log_window_value`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowValue {
    /// The mean of a window.
    #[default]
    Average,
    /// The largest value of a window.
    Max,
    /// Both, the mean first.
    Both,
}

/// Interval of rates in the report, where nothing is said (fio's default).
const INTERVAL_NS: u64 = 500_000_000;

impl Default for LogsSpec {
    fn default() -> LogsSpec {
        LogsSpec {
            bandwidth: None,
            latency: None,
            iops: None,
            histogram: None,
            window_ns: 0,
            window_value: WindowValue::Average,
            histogram_ns: 0,
            coarseness: 0,
            offset: false,
            priority: false,
            issue_time: false,
            entries: 65536,
            alternate_epoch: false,
            clock_id: 0,
            compressed: false,
            cpus: None,
            per_job: true,
            bandwidth_interval_ns: None,
            iops_interval_ns: None,
        }
    }
}

impl LogsSpec {
    /// Whether anything is logged.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.histogram.is_some() || self.logs_ios()
    }

    /// Whether anything is logged of single I/Os or of windows.
    #[must_use]
    pub fn logs_ios(&self) -> bool {
        self.bandwidth.is_some() || self.latency.is_some() || self.iops.is_some()
    }

    /// Window of the bandwidth log in nanoseconds; 0 for every I/O. As in fio, the smaller of
    /// `log_avg_msec` and `bwavgtime`.
    #[must_use]
    pub fn bandwidth_window_ns(&self) -> u64 {
        self.window_ns.min(self.bandwidth_interval_ns.unwrap_or(u64::MAX))
    }

    /// The same for the log of IOPS and `iopsavgtime`.
    #[must_use]
    pub fn iops_window_ns(&self) -> u64 {
        self.window_ns.min(self.iops_interval_ns.unwrap_or(u64::MAX))
    }

    /// Interval of the report's bandwidths in nanoseconds. As in fio, a log of windows sets it too.
    #[must_use]
    pub fn report_bandwidth_ns(&self) -> u64 {
        interval(self.bandwidth_interval_ns, self.bandwidth.is_some(), self.window_ns)
    }

    /// The same for IOPS.
    #[must_use]
    pub fn report_iops_ns(&self) -> u64 {
        interval(self.iops_interval_ns, self.iops.is_some(), self.window_ns)
    }
}

fn interval(said: Option<u64>, logged: bool, window_ns: u64) -> u64 {
    let of_log = (logged && window_ns > 0).then_some(window_ns);
    said.or(of_log).unwrap_or(INTERVAL_NS)
}

impl LogName {
    /// What the names begin with, for a job of this name.
    #[must_use]
    pub fn prefix(&self, job: &str) -> String {
        match self {
            // As in the names of a job's files.
            LogName::Job => job.replace('/', "_"),
            LogName::Prefix(prefix) => prefix.clone(),
        }
    }
}
