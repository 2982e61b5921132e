//! Where I/Os go beyond offset, size and distribution.

use super::{CONTENT, DURABLE, choice, entry};
use crate::job::kind::{Kind, Number};
use crate::job::spec::JobSpec;
use crate::job::spec::places::{DedupeMode, Generator};
use crate::job::table::OptionDef;
use crate::job::value::{Data, Outcome, Value, quote};

const SECTION: &str = "Places";
const ZONED: &str = "zoned namespaces are not supported: it is an option of zonemode = \"zbd\" alone";
const NO_SORT: &str =
    "what is verified is read by offset; verify_order = \"written\" reads it as it was written";

/// Largest region, in bytes.
const MAX_REGION: u64 = i64::MAX as u64;

fn set_zonemode(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let Data::Text(text) = &value.data else { return Err(value.wrong("a string")) };
    job.places.strided = match text.trim() {
        "none" => false,
        "strided" => true,
        "zbd" => {
            return Err(value
                .bad("zoned namespaces are not supported")
                .help("on a conventional device, `strided` visits one window after the other"));
        }
        other => return Err(value.bad(format!("`{other}` is neither none nor strided"))),
    };
    Ok(())
}

fn set_spr_op(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let text = match &value.data {
        Data::Text(text) | Data::Float(text) => text.trim(),
        _ => return Err(value.wrong("a share between 0 and 1")),
    };
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let share: Option<f64> = text.parse().ok().filter(|share| plain && *share >= 0.001 && *share < 1.0);
    job.places.spr_op =
        share.ok_or_else(|| value.bad("expected a share between 0.001 and 1, such as 0.28"))?;
    Ok(())
}

fn set_buffered(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    Kind::Flag(|job| &mut job.direct).set(job, value)?;
    job.direct = !job.direct;
    Ok(())
}

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[
    entry(
        DURABLE,
        "buffered",
        &[],
        "true",
        Kind::Special { form: "true or false", words: &["true", "false"], set: set_buffered, show: |_| None },
        "The same as `direct`, said the other way round: `buffered = false` is `direct = true`. It is kept as \
         `direct`.",
    ),
    entry(
        SECTION,
        "zonemode",
        &[],
        "\"none\"",
        Kind::Special {
            form: "one of none, strided",
            words: &["none", "strided"],
            set: set_zonemode,
            show: |job| Some(quote(if job.places.strided { "strided" } else { "none" })),
        },
        "`strided` visits one window of the region after the other: `zonesize` bytes in a window of `zonerange` \
         bytes, then `zoneskip` bytes are left alone, and behind the last window comes the first again, until the \
         amount is done. What is random is so within the window, and comes once before it comes again unless \
         `norandommap` is set. I/Os stay in their window, and a window that the end of the region cuts short has \
         its share of `zonesize`; fio crosses the one and ends the job at the other. In a mix each direction walks \
         by itself. A history for `verify` takes 8 bytes of memory a block.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        SECTION,
        "zonesize",
        &[],
        "",
        Kind::Size { min: 1, max: MAX_REGION, field: Number::ZeroUnset(|job| &mut job.places.zonesize) },
        "How much is transferred in a window before the turn of the next, with `zonemode = \"strided\"`: less than \
         `zonerange` uses the beginning of each window, more goes over it again.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        SECTION,
        "zonerange",
        &[],
        "`zonesize`",
        Kind::Size { min: 1, max: MAX_REGION, field: Number::ZeroUnset(|job| &mut job.places.zonerange) },
        "The length of a window, with `zonemode = \"strided\"`.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        SECTION,
        "zoneskip",
        &[],
        "0",
        Kind::Size { min: 0, max: MAX_REGION, field: Number::U64(|job| &mut job.places.zoneskip) },
        "What is left alone between two windows, with `zonemode = \"strided\"`.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        SECTION,
        "rw_sequencer",
        &[],
        "\"sequential\"",
        Kind::Choice {
            choices: &[choice("sequential", &[]), choice("identical", &[])],
            set: |job, word| job.places.identical = word == "identical",
            get: |job| if job.places.identical { "identical" } else { "sequential" },
        },
        "What a random workload with a number behind it does between two new offsets, as in `rw = \
         \"randread:8\"`: goes on behind the last I/O, or repeats its offset (`identical`).",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        SECTION,
        "random_generator",
        &[],
        "\"tausworthe\"",
        Kind::Choice {
            choices: &[choice("tausworthe", &[]), choice("lfsr", &[]), choice("tausworthe64", &[])],
            set: |job, word| {
                job.places.generator = match word {
                    "lfsr" => Generator::Lfsr,
                    "tausworthe64" => Generator::Tausworthe64,
                    _ => Generator::Tausworthe,
                }
            },
            get: |job| match job.places.generator {
                Generator::Lfsr => "lfsr",
                Generator::Tausworthe64 => "tausworthe64",
                Generator::Tausworthe => "tausworthe",
            },
        },
        "Random offsets always come from one keyed permutation that needs no map and has no largest region. Of \
         fio's generators only what users see is kept: with `lfsr` each block comes once a pass even with \
         `norandommap`; the other two do as `norandommap` says.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        SECTION,
        "random_sequence_stride",
        &[],
        "false",
        Kind::Flag(|job| &mut job.places.sequence_stride),
        "With `random_distribution = \"sequence:...\"`: each time the sequence is over, it goes on behind itself, \
         by as many blocks as it has entries, and at the end of the region from the beginning again. Otherwise it \
         repeats the same blocks.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        SECTION,
        "offset_align",
        &[],
        "0",
        Kind::Size { min: 0, max: MAX_REGION, field: Number::U64(|job| &mut job.places.offset_align) },
        "An `offset` that is a percentage of the target is rounded up to a multiple of this. 0 rounds it down to \
         the logical block of the target.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        SECTION,
        "bs_unaligned",
        &["blocksize_unaligned"],
        "false",
        Kind::Flag(|job| &mut job.places.bs_unaligned),
        "Lengths of a `bsrange` are any number of bytes in it, not only multiples of the smallest. `direct` \
         needs whole logical blocks and goes without it.",
    )
    .shapes_data()
    .refused_beside_log("its lengths are those of the log"),
    entry(
        SECTION,
        "bs_is_seq_rand",
        &[],
        "false",
        Kind::Flag(|job| &mut job.places.bs_is_seq_rand),
        "The lengths given for reads are those of sequential I/Os and the lengths given for writes those of \
         random ones, whatever the command.",
    )
    .shapes_data()
    .refused_beside_log("its lengths are those of the log"),
    entry(
        SECTION,
        "sprandom",
        &[],
        "false",
        Kind::Flag(|job| &mut job.places.sprandom),
        "One pass of random writes that leaves an SSD as a long time of random writes would: every block of the \
         region once, and as many again as the device has spare area (`spr_op`), chosen so that of what was \
         written first the most is stale. Needs `rw = \"randwrite\"` and one block size, and ends by itself.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        SECTION,
        "spr_op",
        &[],
        "0.15",
        Kind::Special {
            form: "share between 0 and 1",
            words: &[],
            set: set_spr_op,
            show: |job| Some(format!("{:?}", job.places.spr_op)),
        },
        "The over-provisioning of the device, as a share of its capacity, for `sprandom`.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        SECTION,
        "spr_num_regions",
        &[],
        "100",
        Kind::Integer { min: 1, max: 1 << 20, field: Number::U32(|job| &mut job.places.spr_num_regions) },
        "In how many parts `sprandom` writes the device: more are more exact and take less memory, which is about \
         16 bytes for each stale block of one part.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        SECTION,
        "spr_cs",
        &[],
        "0",
        Kind::Size { min: 0, max: MAX_REGION, field: Number::U64(|job| &mut job.places.spr_cs) },
        "The size of the device's cache, for `sprandom`: with one, blocks of a part are overwritten behind the \
         next part and not at its beginning, so that the cache does not swallow the first write. A part must not be \
         smaller.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        CONTENT,
        "dedupe_mode",
        &[],
        "\"repeat\"",
        Kind::Choice {
            choices: &[choice("repeat", &[]), choice("working_set", &[])],
            set: |job, word| {
                job.places.dedupe_mode =
                    if word == "working_set" { DedupeMode::WorkingSet } else { DedupeMode::Repeat }
            },
            get: |job| match job.places.dedupe_mode {
                DedupeMode::Repeat => "repeat",
                DedupeMode::WorkingSet => "working_set",
            },
        },
        "What a duplicate of `dedupe_percentage` repeats: the newest block that was none (`repeat`), or any of the \
         first ones (`working_set`), of which there are as many as `dedupe_working_set_percentage` says.",
    ),
    entry(
        CONTENT,
        "dedupe_working_set_percentage",
        &[],
        "5",
        Kind::Integer { min: 1, max: 100, field: Number::U32(|job| &mut job.places.dedupe_working_set) },
        "How many percent of the region the blocks of `dedupe_mode = \"working_set\"` would fill.",
    ),
];

/// Options of fio that are refused, and why.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("zonecapacity", ZONED),
    ("read_beyond_wp", ZONED),
    ("max_open_zones", ZONED),
    ("job_max_open_zones", ZONED),
    ("ignore_zone_limits", ZONED),
    ("recover_zbd_write_error", ZONED),
    ("zone_reset_threshold", ZONED),
    ("zone_reset_frequency", ZONED),
    ("write_zone_remainder", ZONED),
    ("softrandommap", "random offsets need no map here, so none can fail to be allocated: leave it out"),
    ("percentage_sequential", "fio gave it up too: say what is left of 100 as `percentage_random`"),
    ("rwmixcycle", "fio gave it up too: `rwmixread` holds exactly over every hundred I/Os"),
    ("verifysort", NO_SORT),
    ("verifysort_nr", NO_SORT),
    (
        "dedupe_global",
        "every worker makes contents of its own: give jobs that should share blocks the same `buffer_pattern`, \
         or write with one job",
    ),
];
