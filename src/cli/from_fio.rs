//! Arguments of fio's command line that have another name here, or none, and why.

use clap::{Arg, ArgAction};

use crate::job;

/// Arguments that have another name here.
pub const SAME: &[(&str, &str)] = &[("parse-only", "check")];

/// Arguments that are refused, and what to do instead.
pub const REFUSED: &[(&str, &str)] = &[
    ("alloc-size", "memory is taken as it is needed, from no pool of its own: leave it out"),
    ("append-terse", "reports are `normal`, `json` or `json+`: see --output-format"),
    (
        "cpuclock-test",
        "the clock is calibrated against CLOCK_MONOTONIC at every start: there is nothing to test",
    ),
    (
        "crctest",
        "the speed of checksums is not measured: compare runs of --ioengine=null with and without `verify`",
    ),
    ("daemonize", "start `fio-spdk server` by systemd-run or nohup"),
    (
        "debug",
        "there is no debug log: --print-job shows what a job means, `fio-spdk block show` and `fio-spdk \
               state show` what was written and promised",
    ),
    ("idle-prof", "the report has the CPU time of every job, and the busy and idle turns of every reactor"),
    ("inflate-log", "logs are not stored compressed"),
    ("latency-log", "use the job option `write_lat_log`"),
    ("max-jobs", "there is no table of jobs to size: up to 4096 jobs run, each with up to 4096 clones"),
    ("memcpytest", "the speed of memory is not measured"),
    ("merge-blktrace-only", "traces are not merged into a file"),
    ("minimal", "terse output is not made: use --output-format=json"),
    (
        "remote-config",
        "a server reads no job files of its own: name the file behind --client, and it is sent there",
    ),
    ("server", "that is a command of its own: fio-spdk server"),
    ("server-internal", "that is a command of its own: fio-spdk server"),
    (
        "showcmd",
        "the command line describes one job, a job file many: --print-job prints the resolved jobs as a file",
    ),
    ("terse-version", "terse output is not made: use --output-format=json"),
    ("warnings-fatal", "leave it out: what fio warns of in a job file is an error here"),
];

/// Arguments that are here as in fio.
pub fn arguments() -> [Arg; 2] {
    let section = Arg::new("section")
        .long("section")
        .value_name("NAME")
        .action(ArgAction::Append)
        .help("Run only this job of the job files; may be given several times");
    let engines = Arg::new("enghelp")
        .long("enghelp")
        .value_name("ENGINE[,OPTION]")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("all")
        .help("List the engines, or the options of one");
    [section, engines]
}

/// Why an argument of fio is refused.
pub fn refusal(name: &str) -> Option<String> {
    let (_, why) = REFUSED.iter().find(|(refused, _)| *refused == name)?;
    Some(format!("--{name} of fio is not here: {why}"))
}

/// fio's `--enghelp`: the engines, the options of one, or one of them.
pub fn engine_help(text: &str) -> Result<String, String> {
    let names = || crate::engine::NAMES.iter().copied().chain([crate::engine::SPDK]);
    if text == "all" {
        let mut names: Vec<&str> = names().collect();
        names.dedup();
        return Ok(format!("engines: {}\nthe options of one: --enghelp=io_uring\n", names.join(", ")));
    }
    let (engine, option) =
        text.split_once(',').map_or((text, None), |(engine, option)| (engine, Some(option)));
    if !names().any(|name| name == engine) {
        return Err(format!("there is no engine `{engine}`: --enghelp lists them"));
    }
    if let Some(option) = option {
        return job::explain(option);
    }
    let section = match engine {
        "sim" => "Simulated drive",
        "spdk" => "SPDK",
        other => other,
    };
    let own: Vec<_> = job::table().iter().filter(|option| option.section == section).collect();
    if own.is_empty() {
        return Ok(format!("engine {engine} has no options of its own\n"));
    }
    Ok(own.iter().map(|option| format!("{:<24} {}\n", option.name, option.form())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobSpec, sections};

    fn jobs() -> Vec<JobSpec> {
        let job = |name: &str, more: &str| {
            format!("[[job]]\nname = \"{name}\"\nioengine = \"null\"\nsize = \"1m\"\n{more}")
        };
        let text = job("a", "") + &job("b", "wait_for = \"a\"\n") + &job("c", "");
        job::parse(&[("j".to_owned(), text)], &[]).unwrap()
    }

    #[test]
    fn sections_choose_jobs_that_can_run_without_the_others() {
        let chosen = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
            sections(jobs(), &wanted).map(|jobs| jobs.into_iter().map(|job| job.name).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[]).unwrap(), ["a", "b", "c"]);
        assert_eq!(chosen(&["c", "a"]).unwrap(), ["a", "c"]);
        assert!(chosen(&["d"]).is_err_and(|why| why.contains("a, b, c")));
        assert!(chosen(&["b"]).is_err_and(|why| why.contains("waits for `a`")));
    }

    #[test]
    fn engines_tell_their_options() {
        assert!(engine_help("all").unwrap().contains("io_uring"));
        assert!(engine_help("io_uring").unwrap().contains("sqthread_poll"));
        assert!(engine_help("io_uring,hipri").unwrap().contains("IOPOLL"));
        assert!(engine_help("psync").unwrap().contains("no options"));
        assert!(engine_help("libaio").is_err());
    }
}
