//! The results of audits. What a block means that nobody known has written depends on all of the job's
//! region: beside blocks that were written it is a violation, and without any of them nothing is known.

use crate::base::verify::{Finding, Method, OnUnwritten, Verdict};
use crate::job::JobSpec;
use crate::stats::{EXAMPLES, Filled, Unwritten, UnwrittenRange, VerifyTally};

use super::outcome::Outcome;
use super::plan::JobPlan;
use super::verification;

/// What one worker's audit found.
#[derive(Debug)]
pub struct Audited {
    /// Which job of the stage it belongs to.
    pub job: usize,
    /// Its line of the report.
    pub entry: usize,
    /// As reports call it.
    pub name: String,
    /// Everything but what was not written.
    pub tally: VerifyTally,
    /// What was not written.
    pub unwritten: Unwritten,
}

/// Adds the results of the stage's audits to the report, and the violations to the others.
pub fn settle(plans: &[JobPlan], outcome: &mut Outcome) {
    let mut audits = std::mem::take(&mut outcome.audits);
    for (job, plan) in plans.iter().enumerate() {
        let of_job = |audited: &&mut Audited| audited.job == job;
        let is_written = audits.iter().any(|audited| audited.job == job && has_written(&audited.tally));
        let fails = is_written && plan.spec.verify.unwritten == OnUnwritten::Fail;
        for audited in audits.iter_mut().filter(of_job) {
            let block_bytes = verification::interval(&plan.spec).unwrap_or(0);
            let findings = add_unwritten(&mut audited.tally, &audited.unwritten, fails, block_bytes);
            for finding in &findings {
                outcome.verdicts.tell(&plan.spec.name, &plan.targets, finding);
            }
            if let Some(why) = doubt(&plan.spec, &audited.tally, is_written) {
                audited.tally.doubt(&audited.name, why);
            }
            outcome.entries[audited.entry].verify.get_or_insert_default().merge(&audited.tally);
        }
    }
}

/// Whether a block was found that this tool or fio has written, intact or not.
fn has_written(tally: &VerifyTally) -> bool {
    tally.of(Verdict::Ok) + tally.violations() > tally.of(Verdict::Unreadable)
}

/// Counts what was not written. Returns the violations, one a range: the first block and how many more.
fn add_unwritten(
    tally: &mut VerifyTally,
    unwritten: &Unwritten,
    fails: bool,
    block_bytes: u32,
) -> Vec<Finding> {
    if !fails {
        tally.judged(Verdict::Unwritten, unwritten.blocks(), 0);
        return Vec::new();
    }
    for filled in Filled::ALL {
        let blocks = unwritten.counts[filled as usize];
        tally.judged(verdict_of(filled), blocks, blocks);
    }
    let findings: Vec<Finding> = unwritten.ranges().map(|range| finding(&range, block_bytes)).collect();
    for filled in Filled::ALL {
        let alike = findings.iter().filter(|finding| finding.stands == stored(filled));
        alike.take(EXAMPLES).for_each(|finding| tally.keep(finding));
    }
    findings
}

const fn verdict_of(filled: Filled) -> Verdict {
    match filled {
        Filled::Zeros | Filled::Ones => Verdict::Blank,
        Filled::Other => Verdict::Corrupt,
    }
}

const fn stored(filled: Filled) -> &'static str {
    match filled {
        Filled::Zeros => "zeros",
        Filled::Ones => "ones (0xff)",
        Filled::Other => "nothing that this tool or fio wrote",
    }
}

fn finding(range: &UnwrittenRange, block_bytes: u32) -> Finding {
    let blocks = (range.end - range.start) / u64::from(block_bytes.max(1));
    let more = format!("the same in all {blocks} blocks from here up to offset {}", range.end);
    Finding {
        verdict: verdict_of(range.filled),
        target: range.target,
        offset: range.start,
        len: block_bytes,
        stands: stored(range.filled).to_owned(),
        allowed: "any intact block of this place".to_owned(),
        promise: "an audit demands all of its region, and other blocks of it were written; \
                  verify_unwritten = \"allow\" permits blocks that were not"
            .to_owned(),
        details: if blocks > 1 { vec![more] } else { Vec::new() },
        named_offset: None,
        rereads: Vec::new(),
        atomic: None,
    }
}

/// Why the result of a worker is inconclusive, if it is.
fn doubt(spec: &JobSpec, tally: &VerifyTally, is_written: bool) -> Option<&'static str> {
    if tally.of(Verdict::NotChecked) > 0 {
        return Some("not every block was checked");
    }
    match tally.demanded {
        0 if tally.promised == 0 => Some("there was nothing to check"),
        0 if spec.verify.method == Some(Method::Null) => {
            Some("nothing was demanded: verify = \"null\" compares nothing")
        }
        0 if is_written => Some("nothing was demanded: no block of its part of the region was written"),
        0 => Some("nothing was demanded: no block of the region was written by this tool or fio"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwritten_blocks_are_counted_exactly_and_named_by_range() {
        let mut unwritten = Unwritten::default();
        let range = |start, end, filled| UnwrittenRange { target: 0, start, end, filled };
        unwritten.add(range(0, 8192, Filled::Zeros), 2);
        unwritten.add(range(16384, 20480, Filled::Ones), 1);
        unwritten.add(range(40960, 45056, Filled::Other), 1);
        let mut allowed = VerifyTally::default();
        assert!(add_unwritten(&mut allowed, &unwritten, false, 4096).is_empty());
        assert_eq!((allowed.of(Verdict::Unwritten), allowed.demanded, allowed.checked), (4, 0, 4));
        let mut failed = VerifyTally::default();
        let findings = add_unwritten(&mut failed, &unwritten, true, 4096);
        assert_eq!((failed.of(Verdict::Blank), failed.of(Verdict::Corrupt), failed.demanded), (3, 1, 4));
        assert_eq!(findings.iter().map(|finding| finding.offset).collect::<Vec<_>>(), [0, 16384, 40960]);
        assert!(findings[0].details[0].contains("all 2 blocks") && findings[1].details.is_empty());
    }
}
