//! What verification found.

use super::{Reader, few, small};
use crate::base::atomic::AtomicSource;
use crate::base::host::printable;
use crate::base::verify::{Finding, Verdict};
use crate::remote::wire::bench;
use crate::stats::{Doubt, EXAMPLES, VerifyTally};

/// Reasons for which blocks were not judged.
const MOST_REASONS: usize = 1000;
/// Re-reads of one block, and lines that tell of it.
const MOST_OF_FINDING: usize = 1000;

pub(super) fn to(tally: &VerifyTally) -> bench::VerifyTally {
    let verdict = |&verdict: &Verdict| bench::VerdictCount {
        verdict: number(verdict),
        blocks: tally.of(verdict),
        name: verdict.name().to_owned(),
        is_violation: verdict.is_violation(),
    };
    bench::VerifyTally {
        promised: tally.promised,
        checked: tally.checked,
        not_checked: tally.not_checked.iter().map(|(why, blocks)| (why.clone(), *blocks)).collect(),
        checked_early: tally.checked_early,
        verdicts: Verdict::ALL.iter().filter(|one| tally.of(**one) > 0).map(verdict).collect(),
        transient: tally.transient,
        examples: tally.examples.iter().map(finding_to).collect(),
        oldest_loss_writes: tally.oldest_loss_writes,
        read_bytes: tally.read_bytes,
        read_ns: tally.read_ns,
        demanded: tally.demanded,
        doubts: tally.doubts.iter().map(doubt_to).collect(),
        torn_awupf: tally.torn_awupf,
    }
}

fn doubt_to((why, doubt): (&String, &Doubt)) -> bench::VerifyDoubt {
    bench::VerifyDoubt { why: why.clone(), workers: doubt.workers, first: doubt.first.clone() }
}

pub(super) fn from(tally: &bench::VerifyTally, reader: &mut Reader) -> Result<VerifyTally, String> {
    few("reasons for not checking", tally.not_checked.len(), MOST_REASONS)?;
    few("reasons for doubt", tally.doubts.len(), MOST_REASONS)?;
    let mut made = VerifyTally {
        promised: reader.count(tally.promised)?,
        checked: reader.count(tally.checked)?,
        demanded: reader.count(tally.demanded)?,
        checked_early: reader.count(tally.checked_early)?,
        transient: reader.count(tally.transient)?,
        torn_awupf: reader.count(tally.torn_awupf)?,
        oldest_loss_writes: reader.count(tally.oldest_loss_writes)?,
        read_bytes: reader.count(tally.read_bytes)?,
        read_ns: reader.time(tally.read_ns)?,
        ..VerifyTally::default()
    };
    for (why, blocks) in &tally.not_checked {
        made.not_checked.insert(why.clone(), reader.count(*blocks)?);
    }
    for doubt in &tally.doubts {
        let made_doubt = Doubt { workers: reader.count(doubt.workers)?, first: doubt.first.clone() };
        made.doubts.insert(doubt.why.clone(), made_doubt);
    }
    for one in &tally.verdicts {
        let blocks = reader.count(one.blocks)?;
        match verdict_of(one.verdict) {
            Some(verdict) => made.counts[verdict as usize] += blocks,
            None => {
                let name = printable(&one.name);
                let verdict = unknown(one.is_violation);
                reader.note(format!(
                    "{blocks} blocks have the verdict `{name}`, which this version does not know: they are \
                     told as `{verdict}`"
                ));
                made.counts[verdict as usize] += blocks;
                if !one.is_violation {
                    // What cannot be understood is not checked.
                    made.checked = made.checked.saturating_sub(blocks);
                    made.not_checked.insert(format!("the verdict `{name}` of a newer version"), blocks);
                }
            }
        }
    }
    let most = (Verdict::ALL.len() + 16) * EXAMPLES;
    few("examples of verdicts", tally.examples.len(), most)?;
    for finding in &tally.examples {
        made.keep(&finding_from(finding)?);
    }
    Ok(made)
}

/// What a verdict of a newer version is told as: no broken promise becomes a kept one, and what cannot be
/// understood is not good.
const fn unknown(is_violation: bool) -> Verdict {
    if is_violation { Verdict::Corrupt } else { Verdict::NotChecked }
}

const NUMBERS: [(Verdict, bench::Verdict); Verdict::ALL.len()] = [
    (Verdict::Ok, bench::Verdict::Ok),
    (Verdict::AllowedLoss, bench::Verdict::AllowedLoss),
    (Verdict::InFlight, bench::Verdict::InFlight),
    (Verdict::Unwritten, bench::Verdict::Unwritten),
    (Verdict::Lost, bench::Verdict::Lost),
    (Verdict::StaleRun, bench::Verdict::StaleRun),
    (Verdict::Misplaced, bench::Verdict::Misplaced),
    (Verdict::Foreign, bench::Verdict::Foreign),
    (Verdict::Torn, bench::Verdict::Torn),
    (Verdict::Blank, bench::Verdict::Blank),
    (Verdict::Corrupt, bench::Verdict::Corrupt),
    (Verdict::FromTheFuture, bench::Verdict::FromTheFuture),
    (Verdict::NotZero, bench::Verdict::NotZero),
    (Verdict::Unreadable, bench::Verdict::Unreadable),
    (Verdict::NotChecked, bench::Verdict::NotChecked),
];

fn number(verdict: Verdict) -> i32 {
    let found = NUMBERS.iter().find(|(known, _)| *known == verdict);
    found.map_or(bench::Verdict::Unknown, |(_, number)| *number).into()
}

fn verdict_of(number: i32) -> Option<Verdict> {
    let wanted = bench::Verdict::try_from(number).ok()?;
    NUMBERS.iter().find(|(_, known)| *known == wanted).map(|(verdict, _)| *verdict)
}

fn finding_to(finding: &Finding) -> bench::Finding {
    bench::Finding {
        verdict: number(finding.verdict),
        target: u32::from(finding.target),
        offset: finding.offset,
        length: finding.len,
        stands: finding.stands.clone(),
        allowed: finding.allowed.clone(),
        promise: finding.promise.clone(),
        details: finding.details.clone(),
        named_offset: finding.named_offset,
        rereads: finding.rereads.iter().map(|verdict| number(*verdict)).collect(),
        name: finding.verdict.name().to_owned(),
        is_violation: finding.verdict.is_violation(),
        atomic: finding.atomic.map(|source| source.name().to_owned()).unwrap_or_default(),
    }
}

fn finding_from(finding: &bench::Finding) -> Result<Finding, String> {
    few("lines of a finding", finding.details.len(), MOST_OF_FINDING)?;
    few("re-reads of a block", finding.rereads.len(), MOST_OF_FINDING)?;
    let (verdict, mut details) = (verdict_of(finding.verdict), finding.details.clone());
    if verdict.is_none() {
        details.push(format!("the server calls it `{}`", printable(&finding.name)));
    }
    let verdict = verdict.unwrap_or(unknown(finding.is_violation));
    Ok(Finding {
        verdict,
        target: small("the target of a finding", finding.target)?,
        offset: finding.offset,
        len: finding.length,
        stands: finding.stands.clone(),
        allowed: finding.allowed.clone(),
        promise: finding.promise.clone(),
        details,
        named_offset: finding.named_offset,
        rereads: finding.rereads.iter().map(|number| verdict_of(*number).unwrap_or(verdict)).collect(),
        atomic: AtomicSource::ALL.into_iter().find(|source| source.name() == finding.atomic),
    })
}
