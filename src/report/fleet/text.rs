//! For people: each server under its name, then all of them.

use crate::base::{Op, PerOp};
use crate::job::spec::Unified;
use crate::report::JobReport;
use crate::report::figures::{mixed, was_used};
use crate::report::normal::{self, NAMES_SHOWN, WIDTH, error_text, flush_text, more, op_text};
use crate::report::text::{self, Style, counted, printable, shortened, span, wrapped};
use crate::report::verify;

use super::together::Together;
use super::{Fleet, ServerReport};

pub(super) fn render(fleet: &Fleet) -> String {
    if let [only] = fleet.servers.as_slice() {
        return only.report.as_ref().map(normal::render).unwrap_or_default();
    }
    let mut out = header(fleet);
    for server in &fleet.servers {
        out.push_str(&heading(&server.place()));
        out.push_str(&server_text(server));
    }
    if let Some(all) = Together::of(fleet) {
        let servers = fleet.servers.len() as u64;
        let of = if all.servers == servers { String::new() } else { format!(" of {servers}") };
        out.push_str(&heading(&format!("all servers ({}{of})", all.servers)));
        out.push_str(&together_text(fleet, &all));
    }
    out
}

fn heading(name: &str) -> String {
    format!("\n==== {} ====\n", shortened(&printable(name), 80))
}

fn header(fleet: &Fleet) -> String {
    let mut first = format!(
        "fio-spdk {}, {} servers, started {} UTC",
        env!("CARGO_PKG_VERSION"),
        fleet.servers.len(),
        text::calendar(fleet.started_unix_ms)
    );
    if fleet.unfinished {
        let tenths = fleet.time_unix_ms.saturating_sub(fleet.started_unix_ms) / 100;
        first.push_str(&format!(", so far, after {}", span(tenths.saturating_mul(100_000_000))));
    }
    let mut out = wrapped("", &first, WIDTH);
    let mut parts = Vec::new();
    let failed: Vec<&ServerReport> = fleet.failed().collect();
    if !failed.is_empty() {
        let names: Vec<String> =
            failed.iter().take(NAMES_SHOWN).map(|server| shortened(&printable(&server.name), 40)).collect();
        parts.push(format!(
            "{} of {} servers failed ({}{})",
            failed.len(),
            fleet.servers.len(),
            names.join(", "),
            more(failed.len(), NAMES_SHOWN)
        ));
    }
    for server in &fleet.servers {
        let troubles = server.report.as_ref().map(normal::troubles).unwrap_or_default();
        if !troubles.is_empty() {
            parts.push(format!("{}: {}", shortened(&printable(&server.name), 40), troubles.join(", ")));
        }
    }
    if !parts.is_empty() {
        out.push_str(&wrapped("TROUBLE: ", &parts.join("; "), WIDTH));
    }
    out
}

fn server_text(server: &ServerReport) -> String {
    let mut out = String::new();
    if let Some(failure) = &server.failure {
        out.push_str(&wrapped("FAILED: ", &printable(&failure.message), WIDTH));
        if server.report.is_some() {
            out.push_str("what had arrived until then:\n");
        }
    }
    match &server.report {
        Some(report) => out.push_str(&normal::render(report)),
        None if server.failure.is_none() => out.push_str("nothing has arrived yet\n"),
        None => {}
    }
    out
}

fn together_text(fleet: &Fleet, all: &Together) -> String {
    let job = &all.job;
    let jobs = format!(
        "{}, {}",
        counted(all.jobs, "job", "jobs"),
        counted(u64::from(job.workers), "worker", "workers")
    );
    let mut out = wrapped("", &jobs, WIDTH);
    job.stats.errors().for_each(|error| out.push_str(&wrapped("  ERRORS: ", &error_text(error), WIDTH)));
    let measuring = &job.spec.measuring;
    if measuring.unified != Unified::Mixed {
        for (op, counts) in job.stats.ops.iter().filter(|(_, counts)| was_used(counts)) {
            out.push_str(&op_text(fleet.unfinished, measuring, op.name(), counts, all.rates.get(op)));
            out.push_str(&spread(job, &all.each, op));
        }
    }
    if measuring.unified != Unified::None {
        let counts = mixed(&job.stats);
        if was_used(&counts) {
            out.push_str(&op_text(fleet.unfinished, measuring, "mixed", &counts, &all.mixed));
        }
    }
    out.push_str(&flush_text(job));
    if job.stats.total_ios() == 0 && job.stats.flush.count() == 0 {
        out.push_str("  no I/O was completed\n");
    }
    if let Some(tally) = &job.verify {
        out.push_str(&verify::text(job, tally, WIDTH));
        if !fleet.unfinished && tally.violations() == 0 {
            out.push_str(&verify::doubt_text(std::iter::once(tally), WIDTH));
        }
    }
    out
}

/// The slowest and the fastest server.
fn spread(job: &JobReport, each: &PerOp<Vec<(String, f64)>>, op: Op) -> String {
    let each = each.get(op);
    let by_rate = |a: &&(String, f64), b: &&(String, f64)| a.1.total_cmp(&b.1);
    let (Some(least), Some(most)) = (each.iter().min_by(by_rate), each.iter().max_by(by_rate)) else {
        return String::new();
    };
    if each.len() < 2 {
        return String::new();
    }
    let style = Style::of(&job.spec.measuring);
    let one = |(name, rate): &(String, f64)| {
        format!("{} {}", shortened(&printable(name), 40), style.bandwidth(*rate))
    };
    wrapped("    ", &format!("slowest {}, fastest {}", one(least), one(most)), WIDTH)
}
