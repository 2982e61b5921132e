//! Logs as fio writes them: a line each, numbers with commas between them.

use crate::base::ioprio::CLASS_RT;
use crate::base::{Op, PerOp};
use crate::job::JobSpec;
use crate::job::spec::WindowValue;
use crate::stats::{LoggedHistogram, LoggedIo, LoggedWindow, Span, Sums};

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// Submission latencies.
    Slat,
    /// Completion latencies.
    Clat,
    /// Both together.
    Lat,
    /// KiB a second.
    Bandwidth,
    /// I/Os a second.
    Iops,
    /// Histograms of completion latencies.
    Histogram,
}

impl LogKind {
    /// What stands in the name of its file, as in fio.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LogKind::Slat => "slat",
            LogKind::Clat => "clat",
            LogKind::Lat => "lat",
            LogKind::Bandwidth => "bw",
            LogKind::Iops => "iops",
            LogKind::Histogram => "clat_hist",
        }
    }
}

/// Which columns there are, and from when on time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// `log_offset`.
    pub offset: bool,
    /// `log_prio`.
    pub priority: bool,
    /// `log_issue_time`.
    pub issue_time: bool,
    /// `log_window_value`.
    pub value: WindowValue,
    /// The priority of the worker's thread, as the kernel has it: that of each I/O without one of its own.
    pub ioprio: u16,
    /// The time in nanoseconds when counting began: 0, or that of a clock.
    pub epoch_ns: u64,
}

impl LogFormat {
    /// The format that a job asks for.
    #[must_use]
    pub fn of(job: &JobSpec) -> LogFormat {
        let logs = &job.logs;
        LogFormat {
            offset: logs.offset,
            priority: logs.priority,
            issue_time: logs.issue_time,
            value: logs.window_value,
            ioprio: job.host.io_priority().map_or(0, |priority| priority.value()),
            epoch_ns: 0,
        }
    }

    /// Appends the line of one I/O to `out`; none where it has no value.
    pub fn io(&self, kind: LogKind, io: &LoggedIo, out: &mut Vec<u8>) {
        let value = match kind {
            LogKind::Slat if !io.has_slat => return,
            LogKind::Slat => io.slat_ns,
            LogKind::Clat => io.clat_ns(),
            LogKind::Lat => io.lat_ns,
            LogKind::Bandwidth => kib_a_second(u64::from(io.len), io.clat_ns()),
            LogKind::Iops => 1,
            LogKind::Histogram => return,
        };
        let issued = matches!(kind, LogKind::Slat | LogKind::Clat);
        let issue_ns = if issued { io.time_ns.saturating_sub(io.clat_ns()) } else { 0 };
        self.time(io.time_ns, out);
        number(value, out);
        let ioprio = if io.priority.0 == 0 { self.ioprio } else { io.priority.0 };
        self.rest(io.op, (u64::from(io.len), io.offset), ioprio, issue_ns, out);
    }

    /// Appends the lines of a window: one for each command of which there was something.
    pub fn window(&self, kind: LogKind, window: &LoggedWindow, out: &mut Vec<u8>) {
        let length_ns = window.end_ns.saturating_sub(window.begin_ns);
        for (op, sums) in window.sums.iter() {
            let Some((mean, max)) = values(kind, sums, length_ns) else { continue };
            self.time(window.end_ns, out);
            number(if self.value == WindowValue::Max { max } else { mean }, out);
            if self.value == WindowValue::Both {
                comma(out);
                number(max, out);
            }
            self.rest(op, (0, 0), 0, 0, out);
        }
    }

    /// Appends the line of a histogram. `block_bytes`: those of the job, where there is one size.
    pub fn histogram(&self, histogram: &LoggedHistogram, block_bytes: &PerOp<u64>, out: &mut Vec<u8>) {
        self.time(histogram.time_ns, out);
        number(histogram.op as u64, out);
        comma(out);
        number(*block_bytes.get(histogram.op), out);
        for &count in &histogram.bins {
            comma(out);
            number(count, out);
        }
        out.push(b'\n');
    }

    fn time(&self, time_ns: u64, out: &mut Vec<u8>) {
        number(self.epoch_ns.saturating_add(time_ns) / 1_000_000, out);
        comma(out);
    }

    /// The columns behind the value.
    fn rest(&self, op: Op, (bytes, offset): (u64, u64), ioprio: u16, issue_ns: u64, out: &mut Vec<u8>) {
        comma(out);
        number(op as u64, out);
        comma(out);
        number(bytes, out);
        if self.offset {
            comma(out);
            number(offset, out);
        }
        comma(out);
        if self.priority {
            out.extend_from_slice(format!("{ioprio:#06x}").as_bytes());
        } else {
            number(u64::from(ioprio >> 13 == CLASS_RT), out);
        }
        if self.issue_time {
            comma(out);
            number(issue_ns, out);
        }
        out.push(b'\n');
    }
}

/// Appends a line of the bandwidth of all jobs, which has the columns of a plain log.
pub fn aggregate(time_ns: u64, kib_a_second: u64, op: Op, out: &mut Vec<u8>) {
    out.extend_from_slice(
        format!("{}, {kib_a_second}, {}, 0, 0\n", time_ns / 1_000_000, op as u64).as_bytes(),
    );
}

/// The line that ends a log in which I/Os are missing. It is no line of fio's: who takes the log for
/// complete shall stumble.
#[must_use]
pub fn incomplete(missing: u64, logged: u64) -> String {
    format!(
        "# incomplete: {missing} of {} I/Os are not here, what is written on was too slow\n",
        missing + logged
    )
}

/// KiB a second of so many bytes in that time; 0 if it took none.
#[must_use]
pub fn kib_a_second(bytes: u64, ns: u64) -> u64 {
    a_second(bytes, ns.saturating_mul(1024))
}

fn a_second(count: u64, ns: u64) -> u64 {
    let rate = u128::from(count) * 1_000_000_000 / u128::from(ns.max(1));
    if ns == 0 { 0 } else { u64::try_from(rate).unwrap_or(u64::MAX) }
}

/// Mean and largest value of a window; `None` if there is none.
fn values(kind: LogKind, sums: &Sums, length_ns: u64) -> Option<(u64, u64)> {
    let of = |span: &Span| (span.count > 0).then(|| (span.mean(), span.max));
    let rate = |rate: u64| (sums.ios > 0).then_some((rate, rate));
    match kind {
        LogKind::Slat => of(&sums.slat),
        LogKind::Clat => of(&sums.clat),
        LogKind::Lat => of(&sums.lat),
        LogKind::Bandwidth => rate(kib_a_second(sums.bytes, length_ns)),
        LogKind::Iops => rate(a_second(sums.ios, length_ns)),
        LogKind::Histogram => None,
    }
}

fn comma(out: &mut Vec<u8>) {
    out.extend_from_slice(b", ");
}

/// Appends a number in decimal: `format!` takes several times as long, and logs have millions.
fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] += (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ioprio::IoPriority;

    const PLAIN: LogFormat = LogFormat {
        offset: false,
        priority: false,
        issue_time: false,
        value: WindowValue::Average,
        ioprio: 0,
        epoch_ns: 0,
    };

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn io() -> LoggedIo {
        let (time_ns, offset) = (2_999_999_000, 8192);
        let priority = IoPriority::default();
        let (len, op) = (4096, Op::Write);
        LoggedIo { time_ns, slat_ns: 1000, lat_ns: 5000, offset, len, op, priority, has_slat: true }
    }

    /// Lines of fio 3.42, its numbers in their places.
    #[test]
    fn columns_come_in_fios_order() {
        let lines = |format: LogFormat| {
            [LogKind::Slat, LogKind::Clat, LogKind::Lat, LogKind::Bandwidth, LogKind::Iops]
                .map(|kind| text(|out| format.io(kind, &io(), out)))
        };
        let plain =
            ["1000", "4000", "5000", "1000000", "1"].map(|value| format!("2999, {value}, 1, 4096, 0\n"));
        assert_eq!(lines(PLAIN), plain);
        let full = LogFormat {
            offset: true,
            priority: true,
            issue_time: true,
            ioprio: 0x2004,
            epoch_ns: 1_700_000_000_000_000_000,
            ..PLAIN
        };
        assert_eq!(lines(full)[1], "1700000002999, 4000, 1, 4096, 8192, 0x2004, 2999995000\n");
        assert_eq!(lines(full)[4], "1700000002999, 1, 1, 4096, 8192, 0x2004, 0\n");
        let realtime = LogFormat { offset: true, ioprio: 0x2004, ..PLAIN };
        assert_eq!(lines(realtime)[2], "2999, 5000, 1, 4096, 8192, 1\n");
        let own = LoggedIo { priority: IoPriority(0x4003), ..io() };
        let line = |format: LogFormat| text(|out| format.io(LogKind::Lat, &own, out));
        assert_eq!(
            line(realtime),
            "2999, 5000, 1, 4096, 8192, 0\n",
            "that of the command goes before the thread's"
        );
        assert_eq!(line(LogFormat { epoch_ns: 0, ..full }), "2999, 5000, 1, 4096, 8192, 0x4003, 0\n");
    }

    #[test]
    fn a_window_has_a_line_for_each_direction_that_moved() {
        let span = Span { count: 4, sum: 4002, max: 1900 };
        let write = Sums { ios: 4, bytes: 4 << 20, slat: Span::default(), clat: span, lat: span };
        let sums = PerOp { write, ..PerOp::default() };
        let (begin_ns, end_ns) = (1_000_000_000, 1_500_000_000);
        let window = LoggedWindow { kinds: Default::default(), begin_ns, end_ns, sums };
        let line = |value, kind| text(|out| LogFormat { value, ..PLAIN }.window(kind, &window, out));
        assert_eq!(line(WindowValue::Average, LogKind::Clat), "1500, 1001, 1, 0, 0\n");
        assert_eq!(line(WindowValue::Max, LogKind::Clat), "1500, 1900, 1, 0, 0\n");
        assert_eq!(line(WindowValue::Both, LogKind::Clat), "1500, 1001, 1900, 1, 0, 0\n");
        assert_eq!(line(WindowValue::Average, LogKind::Slat), "");
        assert_eq!(line(WindowValue::Average, LogKind::Bandwidth), "1500, 8192, 1, 0, 0\n");
        assert_eq!(line(WindowValue::Both, LogKind::Iops), "1500, 8, 8, 1, 0, 0\n");
    }

    #[test]
    fn a_histogram_is_one_line_of_bins() {
        let mut histogram = LoggedHistogram::empty(6);
        (histogram.time_ns, histogram.op, histogram.bins[2]) = (7_000_000, Op::Deallocate, 9);
        let line = text(|out| PLAIN.histogram(&histogram, &PerOp::all(4096), out));
        assert_eq!(line, format!("7, 2, 4096, 0, 0, 9{}\n", ", 0".repeat(26)));
    }

    #[test]
    fn numbers_are_those_of_format() {
        for value in [0, 1, 9, 10, 12345, u64::MAX] {
            assert_eq!(text(|out| number(value, out)), value.to_string());
        }
    }
}
