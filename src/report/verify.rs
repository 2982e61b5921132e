//! What verification found, as text and as JSON.

use serde_json::{Map, Value, json};

use crate::base::atomic::AtomicSource;
use crate::base::units::format_size;
use crate::base::verify::{Finding, Verdict};
use crate::stats::{Doubt, VerifyTally};

use super::text::{self, counted, printable, span, wrapped};
use super::{JobReport, Report};

/// Violations of one verdict that are told in full.
const SHOWN: usize = 3;
/// Reasons for being inconclusive at the end of a report.
const MOST_DOUBTS: usize = 8;
/// Lines of detail of one violation.
const MOST_DETAILS: usize = 20;

/// One violation as a line of JSON, without the newline, for `--verdicts`.
#[must_use]
pub fn finding_line(job: &str, target: &str, finding: &Finding) -> String {
    let mut object = Map::new();
    object.insert("job".to_owned(), job.into());
    if let Value::Object(fields) = finding_object(target, finding) {
        object.extend(fields);
    }
    Value::Object(object).to_string()
}

fn finding_object(target: &str, finding: &Finding) -> Value {
    json!({
        "verdict": finding.verdict.name(),
        "target": target,
        "offset": finding.offset,
        "len": finding.len,
        "stands": finding.stands,
        "allowed": finding.allowed,
        "promise": finding.promise,
        "details": finding.details,
        "rereads": finding.rereads.iter().map(|verdict| verdict.name()).collect::<Vec<_>>(),
        "transient": finding.is_transient(),
        "atomic": finding.atomic.map(AtomicSource::name),
    })
}

/// The result of a job that verifies.
pub(super) fn object(job: &JobReport, tally: &VerifyTally) -> Value {
    let verdicts: Map<String, Value> =
        Verdict::ALL.iter().map(|verdict| (verdict.name().to_owned(), tally.of(*verdict).into())).collect();
    let examples: Vec<Value> =
        tally.examples.iter().map(|finding| finding_object(&target_name(job, finding), finding)).collect();
    json!({
        "promised": tally.promised,
        "demanded": tally.demanded,
        "checked": tally.checked,
        "checked_early": tally.checked_early,
        "not_checked": tally.of(Verdict::NotChecked),
        "not_checked_why": tally.not_checked,
        "transient": tally.transient,
        "torn_awupf": tally.torn_awupf,
        "verdicts": verdicts,
        "violations": tally.violations(),
        "inconclusive": tally.is_inconclusive(),
        "inconclusive_why": doubts(tally),
        "oldest_loss_writes": tally.oldest_loss_writes,
        "examples": examples,
        "read_bytes": tally.read_bytes,
        "read_ns": tally.read_ns,
    })
}

/// Why the result is inconclusive, in words: one sentence a reason, with the workers that it holds for.
/// Empty if it is not.
fn doubts(tally: &VerifyTally) -> Vec<String> {
    if tally.doubts.is_empty() && tally.is_inconclusive() {
        return vec!["nothing was demanded, or not every block was checked".to_owned()];
    }
    let sentence = |(why, doubt): (&String, &Doubt)| match (doubt.workers, doubt.first.as_str()) {
        (_, "") => why.clone(),
        (1, first) => format!("{first}: {why}"),
        (workers, first) => {
            format!("{first} and {}: {why}", counted(workers - 1, "more worker", "more workers"))
        }
    };
    tally.doubts.iter().map(sentence).collect()
}

/// Why the exit code says that a run that broke nothing is inconclusive: the last lines of the report.
pub(super) fn conclusion(report: &Report, width: usize) -> String {
    if report.unfinished || report.violations() > 0 || !report.inconclusive() {
        return String::new();
    }
    "\n".to_owned() + &doubt_text(report.jobs.iter().filter_map(|job| job.verify.as_ref()), width)
}

/// Why these results are inconclusive, a line each.
pub(super) fn doubt_text<'a>(tallies: impl Iterator<Item = &'a VerifyTally>, width: usize) -> String {
    let mut sentences: Vec<String> = tallies.flat_map(doubts).collect();
    let more = sentences.len().saturating_sub(MOST_DOUBTS);
    sentences.truncate(MOST_DOUBTS);
    let mut out = String::new();
    for sentence in sentences {
        out.push_str(&wrapped("inconclusive: ", &printable(&sentence), width));
    }
    if more > 0 {
        out.push_str(&format!("inconclusive: and {more} more\n"));
    }
    out
}

/// The target of a finding as the job file names it; its number where that cannot be told.
fn target_name(job: &JobReport, finding: &Finding) -> String {
    // A group may have merged jobs that have other targets.
    let one_job = job.workers <= job.spec.numjobs.max(1);
    let name = job.spec.filename.get(usize::from(finding.target)).filter(|_| one_job);
    name.cloned().unwrap_or_else(|| format!("target {}", finding.target))
}

/// Broken promises and what could not be said, for the head of the report.
pub(super) fn troubles(report: &Report) -> Vec<String> {
    let mut parts = Vec::new();
    let tallies = || report.jobs.iter().filter_map(|job| job.verify.as_ref());
    let violations = report.violations();
    if violations > 0 {
        let kinds: Vec<String> = Verdict::ALL
            .iter()
            .filter(|verdict| verdict.is_violation())
            .map(|verdict| (verdict, tallies().map(|tally| tally.of(*verdict)).sum::<u64>()))
            .filter(|(_, count)| *count > 0)
            .map(|(verdict, count)| format!("{count} {verdict}"))
            .collect();
        let violations = counted(violations, "block breaks", "blocks break");
        parts.push(format!("{violations} a promise ({})", kinds.join(", ")));
    }
    // So far nothing is known of what comes yet.
    if report.inconclusive() && !report.unfinished {
        let missed: u64 = tallies().map(|tally| tally.of(Verdict::NotChecked)).sum();
        parts.push(if missed > 0 {
            format!(
                "verification is inconclusive: {} not checked",
                counted(missed, "block was", "blocks were")
            )
        } else {
            "verification is inconclusive: nothing was demanded of a job or worker".to_owned()
        });
    }
    parts
}

/// The part of a job's text that tells what verification found.
pub(super) fn text(job: &JobReport, tally: &VerifyTally, width: usize) -> String {
    let mut out = wrapped("  verify: ", &coverage(tally), width);
    let mut more = |text: &str| out.push_str(&wrapped("          ", text, width));
    let counts: Vec<String> = Verdict::ALL
        .iter()
        .filter(|verdict| tally.of(**verdict) > 0)
        .map(|verdict| {
            let mark = if verdict.is_violation() { " (VIOLATION)" } else { "" };
            format!("{verdict}={}{mark}", tally.of(*verdict))
        })
        .collect();
    if !counts.is_empty() {
        more(&counts.join(", "));
    }
    if tally.transient > 0 {
        let violations = counted(tally.transient, "violation was", "violations were");
        more(&format!("{violations} TRANSIENT: another read found something else"));
    }
    if tally.torn_awupf > 0 {
        let blocks = counted(tally.torn_awupf, "torn block breaks", "torn blocks break");
        more(&format!("{blocks} AWUPF alone, which some drives misreport"));
    }
    if tally.of(Verdict::AllowedLoss) > 0 {
        let writes = counted(tally.oldest_loss_writes, "write", "writes");
        more(&format!("oldest allowed loss: {writes} before the last"));
    }
    if tally.read_bytes > 0 {
        more(&reading(tally));
    }
    for verdict in Verdict::ALL.into_iter().filter(|verdict| verdict.is_violation()) {
        out.push_str(&violations(job, tally, verdict, width));
    }
    out
}

fn coverage(tally: &VerifyTally) -> String {
    let missed = tally.of(Verdict::NotChecked);
    let mut line = format!(
        "{} promised, {} demanded, {} checked, {missed} not checked",
        counted(tally.promised, "block", "blocks"),
        tally.demanded,
        tally.checked
    );
    if !tally.not_checked.is_empty() {
        let why: Vec<String> =
            tally.not_checked.iter().map(|(why, count)| format!("{count}: {}", printable(why))).collect();
        line.push_str(&format!(" ({})", why.join("; ")));
    }
    if tally.checked_early > 0 {
        line.push_str(&format!(", {} on the way", tally.checked_early));
    }
    if tally.is_inconclusive() {
        line.push_str(": INCONCLUSIVE");
    }
    line
}

#[expect(clippy::cast_precision_loss, reason = "four digits are printed")]
fn reading(tally: &VerifyTally) -> String {
    let size = format_size(tally.read_bytes);
    if tally.read_ns == 0 {
        return format!("read {size}");
    }
    let rate = tally.read_bytes as f64 * 1e9 / tally.read_ns as f64;
    format!("read and judged {size} in {}, BW={}", span(tally.read_ns), text::bandwidth(rate))
}

/// The first violations of one verdict in full, and how many more there are.
fn violations(job: &JobReport, tally: &VerifyTally, verdict: Verdict, width: usize) -> String {
    let mut out = String::new();
    let count = tally.of(verdict);
    let examples = tally.examples.iter().filter(|finding| finding.verdict == verdict);
    let mut shown = 0;
    for finding in examples.take(SHOWN) {
        out.push_str(&violation(job, finding, width));
        shown += 1;
    }
    if shown > 0 && count > shown {
        out.push_str(&format!("    {verdict}: and {} more\n", count - shown));
    }
    out
}

fn violation(job: &JobReport, finding: &Finding, width: usize) -> String {
    let target = target_name(job, finding);
    let first = format!("at offset {} of {target}, {} bytes", finding.offset, finding.len);
    let mut out = wrapped(&format!("    {}: ", finding.verdict), &printable(&first), width);
    let mut line = |name: &str, text: &str| {
        if !text.is_empty() {
            out.push_str(&wrapped(&format!("      {name}: "), &printable(text), width));
        }
    };
    line("stands", &finding.stands);
    line("may stand", &finding.allowed);
    line("promise", &finding.promise);
    for detail in finding.details.iter().take(MOST_DETAILS) {
        line("detail", detail);
    }
    if finding.details.len() > MOST_DETAILS {
        line("detail", &format!("and {} more lines", finding.details.len() - MOST_DETAILS));
    }
    if !finding.rereads.is_empty() {
        let again: Vec<&str> = finding.rereads.iter().map(|verdict| verdict.name()).collect();
        let mark = if finding.is_transient() { " (TRANSIENT)" } else { "" };
        line("read again", &format!("{}{mark}", again.join(", ")));
    }
    out
}
