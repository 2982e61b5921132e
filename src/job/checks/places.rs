//! What must hold between the options that say where I/Os go.

use super::issue;
use crate::base::Op;
use crate::base::shape::{BlockSizes, Distribution, Mix};
use crate::job::diagnostic::Issues;
use crate::job::resolve::Draft;
use crate::job::spec::places::{DedupeMode, Generator};

/// Reports every rule that the job breaks.
pub(super) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    partners(draft, issues);
    windows(draft, issues);
    sprandom(draft, issues);
}

/// Options that mean nothing without another one.
fn partners(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, places) = (&draft.job, &draft.job.places);
    let ranged = job.bs.iter().any(|(_, sizes)| matches!(sizes, BlockSizes::Unaligned { .. }));
    let runs = job.random && job.rw_modifier.is_some_and(|run| run > 1);
    let sequence =
        job.random_distribution.iter().any(|(_, shape)| matches!(shape, Distribution::Sequence { .. }));
    let is_set = |name: &str| draft.setting(name).is_some();
    const STRIDED: (&str, &str) = ("`zonemode = \"strided\"`", "set zonemode = \"strided\"");
    const SPRANDOM: (&str, &str) = ("`sprandom`", "set sprandom = true");
    let rules = [
        ("zonesize", places.zonesize > 0, places.strided, STRIDED),
        ("zonerange", places.zonerange > 0, places.strided, STRIDED),
        ("zoneskip", places.zoneskip > 0, places.strided, STRIDED),
        (
            "zonemode",
            places.strided,
            places.zonesize > 0,
            ("`zonesize`", "set for example zonesize = \"1g\""),
        ),
        (
            "rw_sequencer",
            places.identical,
            runs,
            ("a random workload with a number above 1", "set for example rw = \"randread:8\""),
        ),
        ("bs_unaligned", places.bs_unaligned, ranged, ("`bsrange`", "set for example bsrange = \"1k-64k\"")),
        (
            "random_sequence_stride",
            places.sequence_stride,
            sequence,
            ("such a distribution", "set for example random_distribution = \"sequence:2,0,1\""),
        ),
        ("spr_op", is_set("spr_op"), places.sprandom, SPRANDOM),
        ("spr_num_regions", is_set("spr_num_regions"), places.sprandom, SPRANDOM),
        ("spr_cs", places.spr_cs > 0, places.sprandom, SPRANDOM),
        (
            "dedupe_mode",
            places.dedupe_mode == DedupeMode::WorkingSet,
            job.content.dedupe_percentage > 0,
            ("`dedupe_percentage`", "set for example dedupe_percentage = 50"),
        ),
        (
            "dedupe_working_set_percentage",
            is_set("dedupe_working_set_percentage"),
            places.dedupe_mode == DedupeMode::WorkingSet,
            ("`dedupe_mode = \"working_set\"`", "set dedupe_mode = \"working_set\""),
        ),
    ];
    for (name, set, there, (needed, help)) in rules {
        if set && !there {
            issues.push(issue(draft.place(name), format!("`{name}` needs {needed}"), help));
        }
    }
}

fn windows(draft: &Draft<'_>, issues: &mut Issues) {
    let job = &draft.job;
    let Some(strides) = job.places.strides() else { return };
    for op in Op::ADDRESSED.into_iter().filter(|&op| job.mix.issues(op)) {
        let longest = job.all_sizes_of(op).map(BlockSizes::max).max().unwrap_or(1);
        if strides.range < u64::from(longest) {
            let message = format!("a window of {} bytes has no room for an I/O of {longest}", strides.range);
            let name = if job.places.zonerange > 0 { "zonerange" } else { "zonesize" };
            issues.push(issue(draft.place(name), message, "raise it, or lower bs"));
            return;
        }
        let named = matches!(
            job.random_distribution.get(op),
            Distribution::Sequence { .. } | Distribution::ZonedAbs(_)
        );
        if job.random && named {
            issues.push(issue(
                draft.place("random_distribution"),
                "blocks and sizes of the whole region have no meaning in the windows of `zonemode`",
                "leave one of them out",
            ));
            return;
        }
    }
}

fn sprandom(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, places) = (&draft.job, &draft.job.places);
    if !places.sprandom {
        return;
    }
    let mut refuse = |name: &str, wrong: bool, message: &str, help: &str| {
        if wrong {
            issues.push(issue(draft.place(name), message, help));
        }
    };
    refuse(
        "rw",
        job.mix != Mix::Write || !job.random || job.rw_modifier.is_some_and(|run| run > 1),
        "`sprandom` is one pass of random writes and nothing else",
        "set rw = \"randwrite\"",
    );
    let single = matches!(job.bs.write, BlockSizes::Fixed(size) if size == job.blockalign.write);
    refuse(
        "bs",
        !single,
        "`sprandom` needs one block size, and offsets that are its multiples",
        "set bs alone",
    );
    let plain = job.random_distribution.write == Distribution::Random && job.percentage_random.write == 100;
    let name = if job.percentage_random.write == 100 { "random_distribution" } else { "percentage_random" };
    refuse(name, !plain, "`sprandom` says itself where writes go", "leave this out");
    refuse(
        "norandommap",
        job.norandommap && places.generator != Generator::Lfsr,
        "`sprandom` writes every block, and `norandommap` does not",
        "leave this out",
    );
    refuse(
        "zonemode",
        places.strided,
        "`sprandom` goes over the whole region, not its windows",
        "leave this out",
    );
    refuse("io_size", job.io_size.is_some(), "`sprandom` says itself how much is written", "leave this out");
    refuse(
        "time_based",
        job.time_based,
        "`sprandom` is one pass: begun again, it would not leave what it is for",
        "leave this out; runtime alone ends it early",
    );
    refuse(
        "loops",
        job.loops > 1,
        "`sprandom` is one pass: begun again, it would not leave what it is for",
        "leave this out",
    );
}
