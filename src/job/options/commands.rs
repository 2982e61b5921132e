//! What goes along with a command: hints, priorities, atomicity, ranges.

use super::{choice, entry};
use crate::job::kind::{Kind, Number};
use crate::job::priorities::{set_bssplit, set_class, show_bssplit, show_class};
use crate::job::spec::commands::WriteHint;
use crate::job::table::OptionDef;

const SECTION: &str = "Hints and priorities";
const TRIMS: &str = "Trims";

const PLACEMENT: &str = "data placement directives are not sent: engine `spdk` has none, and the others write \
    through the block layer, where `write_hint` is what a device can be told";
const PASSTHROUGH: &str = "it is of commands that go past the block layer (io_uring_cmd, sg): engine `spdk` sends \
    NVMe commands, see its options";

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[
    entry(
        SECTION,
        "write_hint",
        &[],
        "\"none\"",
        Kind::Choice {
            choices: &[
                choice("none", &[]),
                choice("not-set", &[]),
                choice("short", &[]),
                choice("medium", &[]),
                choice("long", &[]),
                choice("extreme", &[]),
            ],
            set: |job, word| {
                job.commands.write_hint = match word {
                    "not-set" => WriteHint::NotSet,
                    "short" => WriteHint::Short,
                    "medium" => WriteHint::Medium,
                    "long" => WriteHint::Long,
                    "extreme" => WriteHint::Extreme,
                    _ => WriteHint::NotSaid,
                }
            },
            get: |job| match job.commands.write_hint {
                WriteHint::NotSaid => "none",
                WriteHint::NotSet => "not-set",
                WriteHint::Short => "short",
                WriteHint::Medium => "medium",
                WriteHint::Long => "long",
                WriteHint::Extreme => "extreme",
            },
        },
        "How long what is written is expected to live (F_SET_RW_HINT), which a device with streams or placement \
         may heed. The hint is the file's and goes when the last of its users closes it. Engines `psync` and \
         `io_uring`.",
    ),
    entry(
        SECTION,
        "atomic",
        &[],
        "false",
        Kind::Flag(|job| &mut job.commands.atomic),
        "Every write is done whole or not at all (RWF_ATOMIC, Linux 6.11), whatever happens to the power. Implies \
         `direct`. Needs a device or file system that can, which is looked at before anything is written, and one \
         block size that is a power of two. Engines `psync` and `io_uring`.",
    )
    .shapes_promises(),
    entry(
        SECTION,
        "cmdprio_percentage",
        &[],
        "0",
        Kind::Integer { min: 0, max: 100, field: Number::PerOp(|job| &mut job.commands.prio_percentage) },
        "How many percent of the reads and writes carry an I/O priority of their own: the highest class, unless \
         `cmdprio_class` says another. Latencies are then told for each priority too. Needs engine `io_uring` and \
         `direct`, a device or scheduler that heeds priorities, and for the class `rt` the right to use it.",
    ),
    entry(
        SECTION,
        "cmdprio_class",
        &[],
        "\"rt\"",
        Kind::Special {
            form: "one of rt, be, idle, or fio's 1 to 3; per direction",
            words: &["rt", "be", "idle"],
            set: set_class,
            show: |job| Some(show_class(job)),
        },
        "The class of such commands.",
    ),
    entry(
        SECTION,
        "cmdprio",
        &[],
        "0",
        Kind::Integer { min: 0, max: 7, field: Number::PerOp(|job| &mut job.commands.prio_level) },
        "Their level within the class; 0 is the highest.",
    ),
    entry(
        SECTION,
        "cmdprio_hint",
        &[],
        "0",
        Kind::Integer { min: 0, max: 1023, field: Number::PerOp(|job| &mut job.commands.prio_hint) },
        "The hint that goes with it, such as a limit of the duration of ATA drives; 0 for none.",
    ),
    entry(
        SECTION,
        "cmdprio_bssplit",
        &[],
        "",
        Kind::Special {
            form: "bs/percent, bs/percent/class/level or bs/percent/class/level/hint with : between them; per direction",
            words: &[],
            set: set_bssplit,
            show: show_bssplit,
        },
        "How many percent of the commands of each length carry a priority, and which, as in \
         `\"4k/10:64k/50/be/3\"`. Lengths that are not listed carry none. Instead of `cmdprio_percentage`.",
    ),
    entry(
        TRIMS,
        "num_range",
        &[],
        "1",
        Kind::Integer { min: 1, max: 256, field: Number::U32(|job| &mut job.commands.trim_ranges) },
        "Ranges of one trim (NVMe's Dataset Management): each is of `bs` bytes at the next offset of the \
         workload. Such a trim is one I/O of the bytes of all, and logs and errors tell the offset of the \
         first; the last one has fewer ranges where the workload ends. Needs `rw` = \"trim\" or \"randtrim\" \
         on one target. Engines `spdk` (a device that says how many it takes, DMRL, is believed), `sim` and \
         `null`.",
    )
    .shapes_data()
    .refused_beside_log("its trims are those of the log"),
];

/// Options of fio that are refused, and why.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("dataplacement", PLACEMENT),
    ("data_placement", PLACEMENT),
    ("fdp", PLACEMENT),
    ("plids", PLACEMENT),
    ("fdp_pli", PLACEMENT),
    ("plid_select", PLACEMENT),
    ("fdp_pli_select", PLACEMENT),
    ("dp_scheme", PLACEMENT),
    ("cmd_type", PASSTHROUGH),
    ("cdb_len", PASSTHROUGH),
    ("read_mode", PASSTHROUGH),
    ("verify_bytchk", PASSTHROUGH),
    ("verify_mode", "with engine `spdk`, write_mode = \"compare\" makes a device compare"),
    ("deac", "Write Zeroes of `write_mode` never deallocates: use rw = \"trim\" to deallocate"),
];
