//! The options of engine `spdk`. fio's SPDK plugin and `io_uring_cmd` have those that say "as in fio".

use super::{SPDK, choice, entry};
use crate::base::spdk::{Digest, IovaMode, Priority, TimeoutAction, WriteMode};
use crate::job::kind::{Kind, Number};
use crate::job::spdk::{CHECKS, set_hostnqn, set_huge_dir, set_pi_chk, show_pi_chk};
use crate::job::table::OptionDef;
use crate::job::value::quote;

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[
    entry(
        SPDK,
        "io_queue_size",
        &[],
        "that of SPDK",
        Kind::Integer { min: 2, max: 65536, field: Number::MaybeU32(|job| &mut job.spdk.io_queue_size) },
        "Entries of a submission queue of engine `spdk`. It holds one command less than it has entries, so \
         it is above `iodepth`.",
    ),
    entry(
        SPDK,
        "io_queue_requests",
        &[],
        "what `iodepth` needs",
        Kind::Integer {
            min: 0,
            max: 1 << 20,
            field: Number::NonZeroU32(|job| &mut job.spdk.io_queue_requests),
        },
        "Requests that the driver allocates for a queue. Commands that are split need several. 0 stands for \
         the default.",
    ),
    entry(
        SPDK,
        "num_io_queues",
        &[],
        "that of SPDK",
        Kind::Integer { min: 0, max: 65535, field: Number::NonZeroU32(|job| &mut job.spdk.num_io_queues) },
        "Queues asked of the controller. Each worker takes one of each controller. 0 stands for the default.",
    ),
    entry(
        SPDK,
        "delay_cmd_submit",
        &[],
        "true",
        Kind::Flag(|job| &mut job.spdk.delay_cmd_submit),
        "Rings the doorbell once for a batch of commands, instead of once for each.",
    ),
    entry(
        SPDK,
        "use_cmb_sqs",
        &[],
        "false",
        Kind::Flag(|job| &mut job.spdk.use_cmb_sqs),
        "Puts submission queues into the controller memory buffer, where the controller has one.",
    ),
    entry(
        SPDK,
        "enable_wrr",
        &[],
        "false",
        Kind::Flag(|job| &mut job.spdk.enable_wrr),
        "Asks the controller for weighted round robin arbitration between queues, as in fio (NVMe Base, \
         Command Arbitration).",
    ),
    entry(
        SPDK,
        "arbitration_burst",
        &[],
        "0",
        Kind::Integer { min: 0, max: 7, field: Number::U8(|job| &mut job.spdk.arbitration_burst) },
        "How many commands the controller takes from a queue at a time, as a power of two; 7 for no limit. \
         Needs `enable_wrr`.",
    ),
    entry(
        SPDK,
        "low_weight",
        &[],
        "1",
        Kind::Integer { min: 1, max: 256, field: Number::U16(|job| &mut job.spdk.low_weight) },
        "Commands a turn of queues with `wrr_priority = \"low\"`. fio counts from 0. Needs `enable_wrr`.",
    ),
    entry(
        SPDK,
        "medium_weight",
        &[],
        "1",
        Kind::Integer { min: 1, max: 256, field: Number::U16(|job| &mut job.spdk.medium_weight) },
        "Commands a turn of queues with `wrr_priority = \"medium\"`. fio counts from 0. Needs `enable_wrr`.",
    ),
    entry(
        SPDK,
        "high_weight",
        &[],
        "1",
        Kind::Integer { min: 1, max: 256, field: Number::U16(|job| &mut job.spdk.high_weight) },
        "Commands a turn of queues with `wrr_priority = \"high\"`. fio counts from 0. Needs `enable_wrr`.",
    ),
    entry(
        SPDK,
        "wrr_priority",
        &[],
        "\"medium\"",
        Kind::Choice {
            choices: &[
                choice("urgent", &["0"]),
                choice("high", &["1"]),
                choice("medium", &["2"]),
                choice("low", &["3"]),
            ],
            set: |job, word| {
                job.spdk.wrr_priority = match word {
                    "urgent" => Priority::Urgent,
                    "high" => Priority::High,
                    "low" => Priority::Low,
                    _ => Priority::Medium,
                }
            },
            get: |job| match job.spdk.wrr_priority {
                Priority::Urgent => "urgent",
                Priority::High => "high",
                Priority::Medium => "medium",
                Priority::Low => "low",
            },
        },
        "The class of this job's queues. `urgent` is served before all others. fio's numbers 0 to 3 stand \
         for `urgent` to `low`; its default is 0. Needs `enable_wrr`.",
    ),
    entry(
        SPDK,
        "mem_size_mb",
        &[],
        "as much as is needed",
        Kind::Integer { min: 0, max: 1 << 24, field: Number::NonZeroU32(|job| &mut job.spdk.mem_size_mb) },
        "Hugepage memory in MiB, as in fio. 0 stands for the default. The same in all jobs of a run.",
    ),
    entry(
        SPDK,
        "mem_single_seg",
        &[],
        "false",
        Kind::Flag(|job| &mut job.spdk.mem_single_seg),
        "Keeps hugepages in one file for each page size, as in fio. With a target of `trtype=VFIOUSER`, which \
         needs it, it is on without being asked for. The same in all \
         jobs of a run.",
    ),
    entry(
        SPDK,
        "huge_dir",
        &[],
        "any",
        Kind::Special {
            form: "path of a directory",
            words: &[],
            set: set_huge_dir,
            show: |job| job.spdk.huge_dir.as_deref().map(quote),
        },
        "The mount of hugetlbfs to take memory from, which decides the size of the pages. The same in all \
         jobs of a run.",
    ),
    entry(
        SPDK,
        "iova_mode",
        &[],
        "\"auto\"",
        Kind::Choice {
            choices: &[choice("auto", &[]), choice("pa", &[]), choice("va", &[])],
            set: |job, word| {
                job.spdk.iova_mode = match word {
                    "pa" => Some(IovaMode::Pa),
                    "va" => Some(IovaMode::Va),
                    _ => None,
                }
            },
            get: |job| match job.spdk.iova_mode {
                None => "auto",
                Some(IovaMode::Pa) => "pa",
                Some(IovaMode::Va) => "va",
            },
        },
        "How the device addresses memory: `pa` by physical addresses, `va` by virtual ones through an \
         IOMMU; `auto` leaves it to DPDK. The same in all jobs of a run.",
    ),
    entry(
        SPDK,
        "admin_cpu",
        &[],
        "any",
        Kind::Integer { min: 0, max: 8191, field: Number::MaybeU32(|job| &mut job.spdk.admin_cpu) },
        "The CPU where admin completions, events and keep-alives are polled for. The same in all jobs of a \
         run.",
    ),
    entry(
        SPDK,
        "hostnqn",
        &[],
        "that of SPDK",
        Kind::Special {
            form: "NVMe qualified name",
            words: &[],
            set: set_hostnqn,
            show: |job| job.spdk.hostnqn.as_deref().map(quote),
        },
        "The name that this host gives itself towards controllers of fabrics, as in fio.",
    ),
    entry(
        SPDK,
        "digest_enable",
        &[],
        "\"none\"",
        Kind::Choice {
            choices: &[choice("none", &[]), choice("header", &[]), choice("data", &[]), choice("both", &[])],
            set: |job, word| {
                job.spdk.digest_enable = match word {
                    "header" => Digest::Header,
                    "data" => Digest::Data,
                    "both" => Digest::Both,
                    _ => Digest::None,
                }
            },
            get: |job| match job.spdk.digest_enable {
                Digest::None => "none",
                Digest::Header => "header",
                Digest::Data => "data",
                Digest::Both => "both",
            },
        },
        "Which parts of NVMe/TCP's messages carry a CRC32C, as in fio. Needs a target with `trtype=TCP`.",
    ),
    entry(
        SPDK,
        "pi_act",
        &[],
        "false",
        Kind::Flag(|job| &mut job.spdk.pi_act),
        "Lets the controller insert protection information into what is written and strip it from what is \
         read (PRACT), where the namespace is formatted with it. Without it the host makes and checks what \
         the format asks for. True by default in fio.",
    ),
    entry(
        SPDK,
        "pi_chk",
        &[],
        "nothing",
        Kind::Special {
            form: "GUARD, REFTAG, APPTAG with | between them, or array of them; or NONE",
            words: &CHECKS,
            set: set_pi_chk,
            show: show_pi_chk,
        },
        "What of the protection information the controller checks (PRCHK), as in fio; in what is read, without \
         `pi_act`, the host too.",
    ),
    entry(
        SPDK,
        "apptag",
        &[],
        "0",
        Kind::Integer { min: 0, max: 0xffff, field: Number::U16(|job| &mut job.spdk.apptag) },
        "The application tag of protection information, such as 0x1234, which is fio's default. \
         It is written where the namespace is formatted with such information, and checked as `pi_chk` says.",
    ),
    entry(
        SPDK,
        "apptag_mask",
        &[],
        "65535",
        Kind::Integer { min: 0, max: 0xffff, field: Number::U16(|job| &mut job.spdk.apptag_mask) },
        "Which bits of the application tag are checked, as in fio. Needs `pi_chk` with `APPTAG`.",
    ),
    entry(
        SPDK,
        "command_timeout",
        &[],
        "0",
        Kind::Time(Number::U64(|job| &mut job.spdk.command_timeout_ns)),
        "A command that takes longer than this is told of, and `timeout_action` is done. 0 never. Unlike \
         `reap_timeout`, it is of one command.",
    ),
    entry(
        SPDK,
        "timeout_action",
        &[],
        "\"none\"",
        Kind::Choice {
            choices: &[choice("none", &[]), choice("abort", &[]), choice("reset", &[]), choice("fail", &[])],
            set: |job, word| {
                job.spdk.timeout_action = match word {
                    "abort" => TimeoutAction::Abort,
                    "reset" => TimeoutAction::Reset,
                    "fail" => TimeoutAction::Fail,
                    _ => TimeoutAction::None,
                }
            },
            get: |job| match job.spdk.timeout_action {
                TimeoutAction::None => "none",
                TimeoutAction::Abort => "abort",
                TimeoutAction::Reset => "reset",
                TimeoutAction::Fail => "fail",
            },
        },
        "What happens to a command after `command_timeout`: `none` only counts it, `abort` aborts it, \
         `reset` resets the controller, so that what was in flight comes back as aborted, `fail` gives the \
         controller up.",
    ),
    entry(
        SPDK,
        "keep_alive_timeout",
        &[],
        "\"10s\"",
        Kind::Time(Number::U64(|job| &mut job.spdk.keep_alive_timeout_ns)),
        "How long a controller of fabrics may hear nothing of its host before it takes it for dead; 0 for \
         ever. Whole milliseconds.",
    ),
    entry(
        SPDK,
        "volatile_write_cache",
        &[],
        "\"keep\"",
        Kind::Choice {
            choices: &[choice("keep", &[]), choice("on", &["1", "true"]), choice("off", &["0", "false"])],
            set: |job, word| {
                job.spdk.volatile_write_cache = match word {
                    "on" => Some(true),
                    "off" => Some(false),
                    _ => None,
                }
            },
            get: |job| match job.spdk.volatile_write_cache {
                None => "keep",
                Some(true) => "on",
                Some(false) => "off",
            },
        },
        "Turns the volatile write cache of the controller on or off while the job runs (feature 06h); \
         `keep` leaves it as it is.",
    ),
    entry(
        SPDK,
        "write_mode",
        &[],
        "\"write\"",
        Kind::Choice {
            choices: &[
                choice("write", &[]),
                choice("zeroes", &[]),
                choice("uncor", &[]),
                choice("verify", &[]),
                choice("compare", &[]),
            ],
            set: |job, word| {
                job.spdk.write_mode = match word {
                    "zeroes" => WriteMode::Zeroes,
                    "uncor" => WriteMode::Uncorrectable,
                    "verify" => WriteMode::Verify,
                    "compare" => WriteMode::Compare,
                    _ => WriteMode::Write,
                }
            },
            get: |job| match job.spdk.write_mode {
                WriteMode::Write => "write",
                WriteMode::Zeroes => "zeroes",
                WriteMode::Uncorrectable => "uncor",
                WriteMode::Verify => "verify",
                WriteMode::Compare => "compare",
            },
        },
        "Which command the job's writes are: `write`, `zeroes` (Write Zeroes), `uncor` (Write \
         Uncorrectable), `verify` (the device reads and checks, nothing is transferred), `compare` (the \
         device compares with what a write would have stored), as in fio, which has no `compare`. All but \
         `write` go without the job's `verify`.",
    ),
    entry(
        SPDK,
        "readfua",
        &[],
        "false",
        Kind::Flag(|job| &mut job.spdk.readfua),
        "Reads with force unit access: from the medium, not from a cache, as in fio.",
    ),
];
