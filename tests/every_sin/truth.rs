//! What a report must say, worked out from the sins that the drive has confessed: per block, what may
//! be said of it, and what must be. Sound where one job with one worker and one kind of sin was at
//! work.

use std::collections::BTreeMap;

use fio_spdk::base::Op;
use fio_spdk::base::sim::Fault;
use fio_spdk::base::verify::Verdict;
use fio_spdk::engine::sim::Sin;

use super::bench::{Command, Played, commands, meets, slack};

/// Shortest part of a write in an LBA that tells whose it is.
const TELLING_BYTES: u64 = 24;

/// What is known of one block.
#[derive(Clone, Debug, Default)]
struct Block {
    /// Numbers of the commands that wrote or trimmed it, rising.
    mutations: Vec<u64>,
    /// What may be said: for each sin that can show, the verdicts it may get.
    may: Vec<(Sin, Vec<Verdict>)>,
    /// One of these must be said, if nothing else may.
    must: bool,
}

/// Holds the report against the sins, both ways; the number of sins that had to be found, and were.
#[track_caller]
pub fn check(played: &Played, interval: u64) -> u64 {
    let spec = played.spec();
    let commands = commands(spec);
    let mut blocks: BTreeMap<u64, Block> = BTreeMap::new();
    for (number, command) in commands.iter().enumerate().filter(|(_, command)| command.op.modifies()) {
        for offset in (command.offset..command.offset + u64::from(command.len)).step_by(interval as usize) {
            blocks.entry(offset).or_default().mutations.push(number as u64);
        }
    }
    for sin in &played.sins {
        let shape = Shape { commands: &commands, interval, lba: u64::from(spec.sim.lba), slack: slack(spec) };
        explain(sin, &played.sins, &shape, &mut blocks);
    }
    let judged = |block: &Block| {
        let newest = block.mutations.last().map(|&newest| commands[newest as usize].op);
        newest == Some(Op::Write) || spec.verify.trim_verify_zero
    };
    let promised = blocks.values().filter(|block| judged(block)).count() as u64;
    let tally = played.tally();
    played.assert(
        tally.promised == promised && tally.checked == promised,
        &format!("{} checked of {} promised, but {promised} were", tally.checked, tally.promised),
    );
    played.assert(tally.violations() == played.seen.len() as u64, "each violation has its line");
    for seen in &played.seen {
        let block = blocks.get(&seen.offset).unwrap_or_else(|| played.fail("nothing was promised there"));
        let explained = block.may.iter().any(|(_, verdicts)| verdicts.contains(&seen.verdict));
        let what = format!("{} at {} for {block:?}", seen.verdict, seen.offset);
        played.assert(explained, &format!("no sin explains {what}"));
        played.assert(seen.rereads == 2, &format!("not read twice more: {what}"));
    }
    let mut found = 0;
    for (offset, block) in blocks.iter().filter(|(_, block)| block.must && judged(block)) {
        let seen = played.seen.iter().any(|seen| seen.offset == *offset);
        played.assert(seen, &format!("nothing was found at {offset}: {block:?}"));
        found += 1;
    }
    found
}

/// What the commands of a job are like.
struct Shape<'a> {
    commands: &'a [Command],
    interval: u64,
    lba: u64,
    slack: u64,
}

/// Puts down which blocks a sin shows in.
fn explain(sin: &Sin, sins: &[Sin], shape: &Shape<'_>, blocks: &mut BTreeMap<u64, Block>) {
    let Shape { commands, interval, lba, slack } = *shape;
    let len = u64::from(sin.len);
    for (&offset, block) in blocks.iter_mut() {
        let own = meets(sin.offset, len, offset, interval);
        let newest = *block.mutations.last().unwrap_or(&0);
        let is_old = |number: &&u64| **number < sin.number;
        let before = block.mutations.iter().rfind(is_old);
        let is_blank = before.is_none_or(|&before| commands[before as usize].op == Op::Deallocate);
        let old = old(sin, sins, offset, interval, !is_blank);
        let here = sin.other.is_some_and(|other| (offset..offset + interval).contains(&other));
        let stands = own && newest == sin.number;
        let (may, must, verdicts) = match sin.fault {
            Fault::Lost | Fault::Misplaced => (stands, stands, old),
            Fault::RolledBack => (own, stands, old),
            Fault::Torn if stands => torn(sin, offset, interval, lba, old),
            Fault::TornLba => (stands, stands && here, [vec![Verdict::Torn], old].concat()),
            Fault::BitFlip => (stands && here, stands && here, vec![Verdict::Corrupt]),
            Fault::Blank | Fault::Ones => (stands, stands, vec![Verdict::Blank]),
            Fault::Shifted => (stands, stands, vec![Verdict::Corrupt]),
            Fault::ReadError => (stands, stands, vec![Verdict::Unreadable]),
            Fault::TransientRead => {
                let judged = here && sin.number >= commands.len() as u64;
                (judged, judged, vec![Verdict::Corrupt])
            }
            Fault::UndeadTrim => (stands, stands && !is_blank, vec![Verdict::NotZero]),
            _ => (false, false, Vec::new()),
        };
        if may {
            block.may.push((*sin, verdicts));
            block.must |= must;
        }
        let lands = sin.other.is_some_and(|other| meets(other, len, offset, interval));
        if sin.fault == Fault::Misplaced && lands {
            // What was meant for this block and landed elsewhere heals nothing here.
            let strayed = |number: u64| sins.iter().any(|other| other.number == number);
            let newest = block.mutations.iter().rfind(|number| !strayed(**number)).copied().unwrap_or(0);
            if newest <= sin.number + slack {
                block.may.push((*sin, vec![Verdict::Misplaced]));
                block.must |= newest + slack < sin.number;
            }
        }
    }
}

/// What is said of a block in which what stood before a sin stands still.
fn old(sin: &Sin, sins: &[Sin], offset: u64, interval: u64, written_before: bool) -> Vec<Verdict> {
    if !written_before {
        return vec![Verdict::Blank];
    }
    let mut verdicts = vec![Verdict::Lost];
    // Unless an older sin has left something else there.
    let meets = |other: &&Sin| meets(other.offset, u64::from(other.len), offset, interval);
    if sins.iter().filter(|other| other.number < sin.number).any(|other| meets(&other)) {
        verdicts.push(Verdict::Blank);
        if matches!(sin.fault, Fault::Torn | Fault::TornLba) {
            verdicts.extend([Verdict::Torn, Verdict::Corrupt]);
        }
    }
    // And the old contents that came back may be older than the newest before.
    if sin.fault == Fault::RolledBack {
        verdicts.push(Verdict::Blank);
    }
    verdicts
}

/// What may be said of a block of a write that ended inside an LBA.
fn torn(sin: &Sin, offset: u64, interval: u64, lba: u64, old: Vec<Verdict>) -> (bool, bool, Vec<Verdict>) {
    let end = sin.other.unwrap_or(0);
    if end >= offset + interval {
        return (false, false, old);
    }
    if end <= offset {
        return (true, true, old);
    }
    let into = end % lba;
    let mut verdicts = vec![Verdict::Torn];
    // What stood there before may have been torn itself: parts of three are no two.
    verdicts.extend(old.iter().copied().filter(|verdict| *verdict == Verdict::Corrupt));
    // A few bytes are no proof of whose they are; and all blocks begin with the same ones.
    if into < TELLING_BYTES || lba - into < TELLING_BYTES {
        verdicts.push(Verdict::Corrupt);
    }
    if end - offset <= 8 {
        verdicts.extend(old);
    }
    (true, true, verdicts)
}
