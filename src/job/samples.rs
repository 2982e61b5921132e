//! Values to try for every option of the table: for tests that change one option at a time.

use super::kind::{Kind, Number};
use super::table::OptionDef;

/// Numbers to try, where they are in range and no less than the least.
const NUMBERS: [u64; 5] = [0, 1, 2, 3, 50];
const SIZES: [u64; 6] = [0, 8, 512, 4096, 8192, 65_536];

/// Values of options that take neither a plain number, nor a size, a time or one of a few words.
const SPECIAL: &[(&str, &[&str])] = &[
    ("name", &["other"]),
    ("description", &["a text"]),
    ("filename", &["/fio-spdk-samples/other", "/fio-spdk-samples/a:/fio-spdk-samples/b"]),
    ("directory", &["/fio-spdk-samples/below"]),
    ("rw", &["write:4k", "randwrite:4", "randrw:2", "rw", "randtrim"]),
    ("rwmixwrite", &["10", "90"]),
    ("bs", &["512", "8k", "4k,8k", "8k,4k", ",,8k"]),
    ("bsrange", &["4k-16k", "512-2k"]),
    ("bssplit", &["4k/50:8k/50", "512/:4k/90"]),
    ("random_distribution", &["zipf:1.2", "pareto", "normal:20", "zoned:60/10:40/90", "sequence:2,0,1"]),
    ("buffer_pattern", &["0xabcd"]),
    ("cpus_allowed", &["0"]),
    ("continue_on_error", &["all", "verify"]),
    ("sim_faults", &["lost:1%"]),
    ("start_delay", &["1s", "1s-2s"]),
    ("wait_for", &["first"]),
    ("ignore_error", &["EIO,EIO"]),
    ("job_start_clock_id", &["1"]),
    ("spr_op", &["0.3", "0.5"]),
    ("file_service_type", &["roundrobin:3", "random", "random:4", "sequential", "zipf:1.3", "normal:10"]),
    ("filename_format", &["f.$jobnum.$filenum", "x.$jobname.$jobnum.$filenum"]),
    ("opendir", &[]),
    ("filesize", &["64k", "32k-128k"]),
    ("sync_file_range", &["write:4"]),
    ("write_iolog", &["/fio-spdk-samples/log"]),
    // Only whoever tries them knows which logs and directories there are.
    ("read_iolog", &[]),
    ("replay_redirect", &["/fio-spdk-samples/other"]),
    ("replay_skip", &["write", "trim", "read,sync"]),
    ("merge_blktrace_file", &["/fio-spdk-samples/merged"]),
    ("merge_blktrace_scalars", &["50", "200"]),
    ("merge_blktrace_iters", &["2"]),
    ("rate", &["1m", "1m,2m"]),
    ("rate_iops", &["100", "100,200"]),
    ("rate_min", &["1k"]),
    ("rate_iops_min", &["1"]),
    ("rate_cycle", &["500"]),
    ("thinktime", &["100", "1ms"]),
    ("thinktime_blocks", &["3"]),
    ("thinktime_spin", &["1"]),
    ("flow_sleep", &["10"]),
    ("max_latency", &["1s"]),
    ("latency_target", &["1ms"]),
    ("latency_window", &["100ms"]),
    ("latency_percentile", &["99"]),
    ("state_dir", &["/fio-spdk-samples"]),
    ("trigger", &["true"]),
    ("trigger_remote", &["true"]),
    ("trigger_file", &["/fio-spdk-samples/trigger"]),
    ("trigger_timeout", &["1h"]),
    ("verify_pattern", &["0xab%o", "7"]),
    ("verify_async_cpus", &["0"]),
    ("cmdprio_class", &["be"]),
    ("cmdprio_bssplit", &["4k/10/be/3"]),
    ("cpumask", &["1"]),
    ("numa_cpu_nodes", &["0"]),
    ("numa_mem_policy", &["local"]),
    ("mem", &["mmap", "mmaphuge"]),
    ("iomem_align", &["8k"]),
    ("hugepage_size", &["2m"]),
    ("nice", &["5"]),
    ("comm", &["other"]),
    ("ioscheduler", &["none"]),
    ("cgroup", &["g"]),
    ("cgroup_io_max", &["rbps=100m"]),
    ("exec_prerun", &["true"]),
    ("exec_postrun", &["true"]),
    ("write_bw_log", &["l"]),
    ("write_lat_log", &["l"]),
    ("write_iops_log", &["l"]),
    ("write_hist_log", &["l"]),
    ("log_avg_msec", &["100"]),
    ("log_hist_msec", &["100"]),
    ("log_alternate_epoch_clock_id", &["1"]),
    ("log_compression_cpus", &["0"]),
    ("bwavgtime", &["100"]),
    ("iopsavgtime", &["100"]),
    ("steadystate", &["iops:2%", "snia"]),
    ("percentile_list", &["50:99"]),
    ("huge_dir", &["/dev/hugepages"]),
    ("hostnqn", &["nqn.2016-06.io.spdk:host"]),
    ("pi_chk", &["GUARD"]),
];

/// Values of an option, as the command line takes them. Whether a job takes one of them depends on its other
/// options.
///
/// # Panics
/// If the option takes values of a form of its own, and none is known here.
pub(crate) fn of(option: &OptionDef) -> Vec<String> {
    if let Some((_, values)) = SPECIAL.iter().find(|(name, _)| *name == option.name) {
        return values.iter().map(|&value| value.to_owned()).collect();
    }
    let within = |list: &[u64], min: u64, max: u64| -> Vec<String> {
        let mut all: Vec<u64> = list.iter().copied().filter(|number| (min..=max).contains(number)).collect();
        if all.is_empty() {
            all = vec![min, max];
        }
        all.iter().map(u64::to_string).collect()
    };
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    match &option.kind {
        Kind::Flag(_) | Kind::Ignored => texts(&["true", "false"]),
        Kind::Integer { min, max, field: Number::PerOp(_) | Number::PerOpOrBs(_) } => {
            let mut all = within(&NUMBERS, *min, *max);
            all.push(",3,3".to_owned());
            all
        }
        Kind::Integer { min, max, .. } => within(&NUMBERS, *min, *max),
        Kind::Size { min, max, .. } => within(&SIZES, *min, *max),
        Kind::Time(_) => texts(&["0", "20ms", "2s"]),
        Kind::Amount(_) | Kind::MaybeAmount(_) => texts(&["0", "3%", "50%", "64k", "256k"]),
        Kind::Choice { choices, .. } => choices.iter().map(|choice| choice.name.to_owned()).collect(),
        Kind::Special { words, .. } => {
            assert!(!words.is_empty(), "option `{}` has no value to try: add some to SPECIAL", option.name);
            texts(words)
        }
    }
}
