//! What a server says of itself, as a table and as JSON.

use serde_json::{Value, json};

use crate::base::host::printable;
use crate::base::units::{SECOND_NS, format_count};
use crate::cli::devices::Table;
use crate::remote::address::Address;
use crate::remote::wire::bench::{Progress, RunStatus, StatusReply, StopReply};
use crate::report::calendar;

/// Digits of a run's id that tell it from others.
const SHORT_ID: usize = 8;

/// What became of `fio-spdk stop`.
pub fn stopped(address: &Address, reply: &StopReply) -> String {
    let what = if reply.was_over { "had ended already" } else { "is told to end" };
    format!("{address}: run {} {what}\n", printable(&reply.run))
}

/// For people.
pub fn text(address: &Address, reply: &StatusReply) -> String {
    let program = reply.protocol.as_ref().map(|protocol| printable(&protocol.program)).unwrap_or_default();
    let mut out =
        format!("{address}: fio-spdk {program} on {}, up {}\n", printable(&reply.host), span(reply.up_s));
    let devices = match reply.devices.is_empty() {
        true => "none".to_owned(),
        false => reply.devices.iter().map(|pattern| printable(pattern)).collect::<Vec<_>>().join(", "),
    };
    out.push_str(&format!("devices allowed: {devices}\ndirectory: {}\n\n", printable(&reply.directory)));
    if reply.runs.is_empty() {
        out.push_str("no runs\n");
        return out;
    }
    let mut table =
        Table::new(&["RUN", "STATE", "STARTED (UTC)", "JOB FILE", "CLIENT"], &[8, 32, 24, 30, 20]);
    for run in &reply.runs {
        let id: String = run.run.chars().take(SHORT_ID).collect();
        table.row(&[
            &id,
            &run.state,
            &calendar(run.started_unix_ms),
            or_dash(&run.job_file),
            or_dash(&run.client),
        ]);
        if !run.targets.is_empty() {
            table.note(&format!("on {}", run.targets.join(", ")));
        }
        if run.ended_unix_ms == 0 {
            table.note(&who(run));
            run.progress.iter().for_each(|progress| table.note(&rates(progress)));
        }
    }
    out.push_str(&table.text());
    out
}

/// For programs.
pub fn json(address: &Address, reply: &StatusReply) -> Value {
    let runs: Vec<Value> = reply.runs.iter().map(run_object).collect();
    json!({
        "server": address.to_string(),
        "host": reply.host,
        "version": reply.protocol.as_ref().map(|protocol| &protocol.program),
        "protocol": reply.protocol.as_ref().map(|protocol| format!("{}.{}", protocol.major, protocol.minor)),
        "up_s": reply.up_s,
        "devices": reply.devices,
        "directory": reply.directory,
        "runs": runs,
    })
}

fn run_object(run: &RunStatus) -> Value {
    json!({
        "run": run.run,
        "state": run.state,
        "running": run.ended_unix_ms == 0,
        "job_file": run.job_file,
        "client": run.client,
        "started_ms": run.started_unix_ms,
        "ended_ms": (run.ended_unix_ms > 0).then_some(run.ended_unix_ms),
        "targets": run.targets,
        "driven": run.driven,
        "watchers": run.watchers,
        "detached": run.detached,
        "progress": run.progress.as_ref().map(progress_object),
    })
}

fn progress_object(progress: &Progress) -> Value {
    let (iops, bytes) = (progress.iops.unwrap_or_default(), progress.bytes_per_s.unwrap_or_default());
    json!({
        "done": progress.fraction_done,
        "eta_s": progress.eta_s,
        "iops": { "read": iops.read, "write": iops.write, "trim": iops.trim },
        "bw_bytes": { "read": bytes.read, "write": bytes.write, "trim": bytes.trim },
        "errors": progress.errors,
    })
}

fn who(run: &RunStatus) -> String {
    let driven = match (run.driven, run.detached) {
        (true, _) => "driven by its client",
        (false, true) => "goes on without its client: fio-spdk attach takes it over",
        (false, false) => "its client is gone",
    };
    match run.watchers {
        0 => driven.to_owned(),
        1 => format!("{driven}, 1 watches"),
        many => format!("{driven}, {many} watch"),
    }
}

fn rates(progress: &Progress) -> String {
    let (iops, bytes) = (progress.iops.unwrap_or_default(), progress.bytes_per_s.unwrap_or_default());
    let mut parts = Vec::new();
    parts.extend(progress.fraction_done.map(|done| format!("{:.0}% done", done.clamp(0.0, 1.0) * 100.0)));
    parts.push(format!("{} IOPS", format_count((iops.read + iops.write + iops.trim).round())));
    parts.push(format!("{:.1}MiB/s", (bytes.read + bytes.write + bytes.trim) / 1_048_576.0));
    if progress.errors > 0 {
        parts.push(format!("{} ERRORS", progress.errors));
    }
    parts.extend(progress.eta_s.map(|seconds| format!("ETA {}", span(seconds))));
    parts.join(", ")
}

fn span(seconds: u64) -> String {
    crate::report::span(seconds.saturating_mul(SECOND_NS))
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::wire::bench::PerOpRate;

    fn reply() -> StatusReply {
        let runs = vec![
            RunStatus {
                run: "00112233445566778899aabbccddeeff".to_owned(),
                job_file: "powercut.toml".to_owned(),
                client: "desk\x1b[2J".to_owned(),
                started_unix_ms: 1_795_238_631_000,
                targets: vec!["/dev/nvme0n1".to_owned()],
                detached: true,
                watchers: 2,
                state: "running".to_owned(),
                progress: Some(Progress {
                    fraction_done: Some(0.25),
                    eta_s: Some(75),
                    iops: Some(PerOpRate { read: 1000.0, write: 500.0, trim: 0.0 }),
                    errors: 3,
                    ..Progress::default()
                }),
                ..RunStatus::default()
            },
            RunStatus {
                run: "ff".to_owned(),
                ended_unix_ms: 7,
                state: "2 violations".to_owned(),
                ..RunStatus::default()
            },
        ];
        StatusReply {
            protocol: Some(crate::remote::protocol()),
            host: "dut1".to_owned(),
            up_s: 3_725,
            runs,
            devices: vec!["/dev/nvme*".to_owned()],
            directory: "/var/lib/fio-spdk".to_owned(),
        }
    }

    #[test]
    fn people_see_what_runs_and_who_drives_it() {
        let text = text(&Address::parse("dut1:99").unwrap(), &reply());
        for line in [
            "dut1:99: fio-spdk 0.1.0 on dut1, up 1h02m",
            "devices allowed: /dev/nvme*",
            "RUN       STATE",
            "00112233  running",
            "on /dev/nvme0n1",
            "goes on without its client: fio-spdk attach takes it over, 2 watch",
            "25% done, 1.5k IOPS, 0.0MiB/s, 3 ERRORS, ETA 1m15s",
            "ff        2 violations",
        ] {
            assert!(text.contains(line), "{line}:\n{text}");
        }
        assert!(!text.contains('\x1b'), "{text}");
        let nothing = StatusReply::default();
        let text = super::text(&Address::parse("dut1").unwrap(), &nothing);
        assert!(text.contains("devices allowed: none") && text.ends_with("no runs\n"), "{text}");
    }

    #[test]
    fn programs_see_all_of_it() {
        let found = json(&Address::parse("dut1").unwrap(), &reply());
        assert_eq!(found["runs"][0]["run"], "00112233445566778899aabbccddeeff");
        assert_eq!((&found["runs"][0]["running"], &found["runs"][1]["ended_ms"]), (&true.into(), &7.into()));
        assert_eq!(found["runs"][0]["progress"]["iops"]["write"], 500.0);
        assert!(found["runs"][1]["progress"].is_null());
    }

    #[test]
    fn a_run_that_is_stopped_is_named() {
        let reply = |was_over| StopReply { run: "ff".to_owned(), was_over };
        let address = Address::parse("dut1").unwrap();
        assert_eq!(stopped(&address, &reply(false)), "dut1: run ff is told to end\n");
        assert_eq!(stopped(&address, &reply(true)), "dut1: run ff had ended already\n");
    }
}
