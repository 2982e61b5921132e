//! What the user typed. The tool's own options are clap's; every other `--name=value` is a job
//! option, which the job floor judges together with the job files.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::base::units::parse_size;
use crate::{engine, job, report};

use super::block::{MOST_BYTES, Request};
use super::campaign;
use super::devices::bind;
use super::{from_fio, remote, report_args};

/// What to do.
pub enum Action {
    /// Run (or check, or print) jobs.
    Run(Box<Invocation>),
    /// `fio-spdk devices`.
    Devices { json: bool },
    /// `fio-spdk devices bind` and `unbind`.
    Bind(bind::Request),
    /// `fio-spdk campaign`.
    Campaign(campaign::Request),
    /// `fio-spdk block show`.
    ShowBlock(Request),
    /// `fio-spdk server`.
    Server(super::server::Request),
    /// `fio-spdk state show`.
    ShowState(super::state::Request),
    /// `fio-spdk attach`, `stop` and `server --status`.
    Remote(remote::args::Request),
    /// `fio-spdk session`: a server starts it.
    Session,
    /// Print this and end well.
    Print(String),
}

/// A run as asked for.
#[derive(Debug, Default)]
pub struct Invocation {
    pub files: Vec<String>,
    pub overrides: Vec<(String, String)>,
    pub check: bool,
    pub print_job: bool,
    pub readonly: bool,
    pub destroy: Vec<String>,
    pub formats: Vec<&'static report::Format>,
    pub output: Option<String>,
    pub verdicts: Option<String>,
    pub same_devices: Option<std::path::PathBuf>,
    pub status_interval: Option<Duration>,
    pub bandwidth_log: Option<String>,
    pub eta: Eta,
    /// The jobs to run; all of them if there is none.
    pub sections: Vec<String>,
    /// `--eta-interval`.
    pub eta_interval: Option<Duration>,
    /// `--eta-newline`.
    pub eta_newline: Option<Duration>,
    /// `--idle-prof`: true for each CPU.
    pub idle_profile: Option<bool>,
    /// `--client` and what belongs to it.
    pub clients: Option<remote::args::Clients>,
}

/// Whether there is a live line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eta {
    #[default]
    Auto,
    Always,
    Never,
}

fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("fio-spdk")
        .version(version())
        .about("Benchmark for NVMe SSDs in fio's language")
        .after_help(
            "Any option of a job can be given as --name=value and holds for all jobs: --runtime=30s, --bs=8k.\n\
             Without a job file, the options describe one job. `--cmdhelp` lists them, `--cmdhelp=bs` explains one.\n\n\
             SIGUSR1, or a file `fio-dump-status` in --aux-path or the directory for temporary files, asks for the \
             statistics so far. SIGINT, SIGTERM and SIGHUP end the run with its report; SIGHUP and SIGINT stay ignored \
             where they were ignored at the start (nohup, a shell script's background), SIGTERM always ends it.\n\n\
             Exit codes: 0 all well, 1 a promise was broken (verification), 2 job file or command line wrong, \
             3 a demanded performance was missed, 4 I/O or device error, 5 inconclusive (nothing, or less than asked, could be verified), 6 unsafe \
             target refused, 128+n ended by signal n.",
        )
        .args_conflicts_with_subcommands(true)
        .arg(Arg::new("files").value_name("JOB.toml").action(ArgAction::Append).help("Job files; - is standard input"))
        .arg(flag("check", "Parse and resolve the jobs, open nothing"))
        .arg(flag("print-job", "Print the resolved jobs as a job file, open nothing"))
        .arg(flag("readonly", "Refuse jobs that write or trim"))
        .arg(destroy_arg())
        .args(report_args::arguments())
        .args(watching_args())
        .arg(
            Arg::new("cmdhelp")
                .long("cmdhelp")
                .value_name("OPTION")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("all")
                .help("List the options of jobs, or explain one"),
        )
        .args(from_fio::arguments())
        .args(remote::args::arguments())
        .subcommands(remote::args::commands())
        .subcommand(
            Command::new("devices")
                .about("List block devices and NVMe controllers, and who uses them")
                .args_conflicts_with_subcommands(true)
                .arg(flag("json", "As JSON"))
                .subcommands(bind::commands()),
        )
        .subcommand(block_command())
        .subcommand(campaign_command())
        .subcommand(super::server::command())
        .subcommand(state_command())
        .subcommand(Command::new("session").about("Do one run for a server, which starts this").hide(true))
        .subcommand(
            Command::new("completions")
                .about("Print a completion script for a shell")
                .arg(Arg::new("shell").required(true).value_parser(value_parser!(clap_complete::Shell))),
        )
}

fn watching_args() -> [Arg; 2] {
    [
        Arg::new("bandwidth-log")
            .long("bandwidth-log")
            .value_name("NAME")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("agg")
            .help("Log the bandwidth of all jobs together: NAME-read_bw.log and its like [default: agg]"),
        Arg::new("idle-prof").long("idle-prof").value_name("WHAT").value_parser(["system", "percpu"]).help(
            "Report how idle the CPUs of the machine were, by what the kernel counts; percpu: also each",
        ),
    ]
}

fn destroy_arg() -> Arg {
    Arg::new("destroy")
        .long("destroy")
        .value_name("SERIAL or PATH")
        .action(ArgAction::Append)
        .help("Allow writing to this block device although it holds a file system or partition table")
}

fn campaign_command() -> Command {
    Command::new("campaign")
        .about("Cut the power again and again: write under load, cut, wait for the device, judge")
        .after_help(
            "FILE.toml is a job file with a table [campaign]: `cycles`, `window` and `power_off` at least, and \
             `power_on`, `wait_ready` and others; jobs/campaign.toml has them all. Any option of a job can be given \
             as --name=value. The same command goes on with a campaign that was ended.\n\n\
             Exit codes: 0 every promise was kept in every cycle, 1 a promise was broken, 2 file or command line \
             wrong, 4 a cycle failed, 5 a cycle was inconclusive, 6 unsafe target refused, 128+n ended by signal n.",
        )
        .arg(
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .help("Parse and resolve the file, start nothing"),
        )
        .arg(destroy_arg())
        .arg(Arg::new("file").value_name("FILE.toml").required(true).help("The file of the campaign"))
}

fn campaign_request(matches: &ArgMatches, overrides: Vec<(String, String)>) -> Action {
    Action::Campaign(campaign::Request {
        file: matches.get_one::<String>("file").cloned().unwrap_or_default(),
        overrides,
        destroy: matches.get_many::<String>("destroy").into_iter().flatten().cloned().collect(),
        check: matches.get_flag("check"),
    })
}

fn block_command() -> Command {
    Command::new("block")
        .about("Look at the blocks that verification works with")
        .subcommand_required(true)
        .subcommand(
        Command::new("show")
            .about("Show what stands in one block: header, digest, tag, payload")
            .after_help(
                "Reads only; the target may be in use. Exit codes: 0 the block is intact, 1 it is damaged, \
                 2 or 4 it cannot be read, 5 nothing of fio-spdk or fio stands there.",
            )
            .arg(
                Arg::new("interval")
                    .long("interval")
                    .value_name("BYTES")
                    .value_parser(block_length)
                    .help("Length of the block where its header does not say [default: 4k]"),
            )
            .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON"))
            .arg(Arg::new("target").value_name("TARGET").required(true).help("A file or block device"))
            .arg(
                Arg::new("offset")
                    .value_name("OFFSET")
                    .required(true)
                    .value_parser(block_offset)
                    .help("Where the block begins: 8192, 8k, 0x2000"),
            ),
    )
}

fn state_command() -> Command {
    Command::new("state")
        .about("Look at snapshots of what was promised")
        .subcommand_required(true)
        .subcommand(
            Command::new("show")
                .about("Show what was issued, in flight, failed and durable, for every worker")
                .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON"))
                .arg(Arg::new("file").value_name("FILE").required(true).help("The snapshot, JOB.state")),
        )
}

fn state_request(matches: &ArgMatches) -> Action {
    let Some(("show", show)) = matches.subcommand() else { return Action::Print(String::new()) };
    Action::ShowState(super::state::Request {
        file: show.get_one::<String>("file").cloned().unwrap_or_default().into(),
        json: show.get_flag("json"),
    })
}

fn block_offset(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16)
                .map_err(|_| "expected an offset such as 8192, 8k or 0x2000".to_owned())
        }
        Some(_) => Err("expected hexadecimal digits behind 0x".to_owned()),
        None => parse_size(text),
    }
}

fn block_length(text: &str) -> Result<u64, String> {
    match block_offset(text)? {
        bytes @ 8..=MOST_BYTES => Ok(bytes),
        _ => Err("expected a length from 8 bytes to 1GiB".to_owned()),
    }
}

fn block_request(matches: &ArgMatches) -> Action {
    let Some(("show", show)) = matches.subcommand() else { return Action::Print(String::new()) };
    Action::ShowBlock(Request {
        target: show.get_one::<String>("target").cloned().unwrap_or_default(),
        offset: show.get_one::<u64>("offset").copied().unwrap_or(0),
        interval: show.get_one::<u64>("interval").copied(),
        json: show.get_flag("json"),
    })
}

fn version() -> String {
    format!(
        "{} ({})\nengines: {}{}{}",
        env!("CARGO_PKG_VERSION"),
        env!("FIO_SPDK_COMMIT"),
        engine::NAMES.join(", "),
        if engine::missing(engine::SPDK).is_some() { " (without spdk: see --cmdhelp=ioengine)" } else { "" },
        engine::libraries().iter().map(|library| format!("\n{library}")).collect::<String>()
    )
}

/// Reads the arguments; the first is the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Action, clap::Error> {
    let mut command = command();
    let (own, overrides) = split(&command, arguments)?;
    let matches = command.try_get_matches_from_mut(own)?;
    match matches.subcommand() {
        Some(("devices", sub)) => {
            return Ok(match bind::request(sub) {
                Some(request) => Action::Bind(request),
                None => Action::Devices { json: sub.get_flag("json") },
            });
        }
        Some(("block", sub)) => return Ok(block_request(sub)),
        Some(("campaign", sub)) => return Ok(campaign_request(sub, overrides)),
        Some(("state", sub)) => return Ok(state_request(sub)),
        Some(("server", sub)) if !sub.get_flag("status") => {
            return Ok(Action::Server(super::server::request(sub)));
        }
        Some((name @ ("attach" | "stop" | "server"), sub)) => {
            let request = remote::args::request(name, sub).map(Action::Remote);
            return request.map_err(|why| command.error(clap::error::ErrorKind::InvalidValue, why));
        }
        Some(("session", _)) => return Ok(Action::Session),
        Some(("completions", sub)) => return Ok(Action::Print(completions(sub))),
        _ => {}
    }
    if let Some(option) = matches.get_one::<String>("cmdhelp") {
        return explain(&mut command, option).map(Action::Print);
    }
    if let Some(engine) = matches.get_one::<String>("enghelp") {
        let told = from_fio::engine_help(engine).map(Action::Print);
        return told.map_err(|why| command.error(clap::error::ErrorKind::InvalidValue, why));
    }
    invocation(&mut command, &matches, overrides).map(|invocation| Action::Run(Box::new(invocation)))
}

fn invocation(
    command: &mut Command,
    matches: &ArgMatches,
    overrides: Vec<(String, String)>,
) -> Result<Invocation, clap::Error> {
    let strings = |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned().collect();
    let files: Vec<String> = strings("files");
    if files.is_empty() && overrides.is_empty() {
        let why = "no job file: name one, or describe a job by its options, such as\n  \
                   fio-spdk --ioengine=null --rw=randread --size=1TiB --runtime=3s";
        return Err(command.error(clap::error::ErrorKind::MissingRequiredArgument, why));
    }
    let invalid = |why: String| command.error(clap::error::ErrorKind::InvalidValue, why);
    let asked = report_args::read(matches).map_err(invalid)?;
    let invalid = |why: String| command.error(clap::error::ErrorKind::InvalidValue, why);
    let clients = remote::args::clients(matches).map_err(invalid)?;
    Ok(Invocation {
        files,
        overrides,
        check: matches.get_flag("check"),
        print_job: matches.get_flag("print-job"),
        readonly: matches.get_flag("readonly"),
        destroy: strings("destroy"),
        sections: strings("section"),
        idle_profile: matches.get_one::<String>("idle-prof").map(|what| what == "percpu"),
        bandwidth_log: matches.get_one::<String>("bandwidth-log").cloned(),
        clients,
        ..asked
    })
}

type Split = (Vec<OsString>, Vec<(String, String)>);

/// Parts the tool's own arguments from the options of jobs.
fn split(command: &Command, arguments: impl IntoIterator<Item = OsString>) -> Result<Split, clap::Error> {
    let own_names: Vec<&str> =
        command.get_arguments().filter_map(Arg::get_long).chain(["help", "version"]).collect();
    let mut own = Vec::new();
    let mut overrides = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    let mut in_subcommand = false;
    while let Some(argument) = arguments.next() {
        let Some(text) =
            argument.to_str().filter(|text| text.starts_with("--") && text.len() > 2 && !in_subcommand)
        else {
            let names_subcommand =
                command.get_subcommands().any(|sub| argument.to_str() == Some(sub.get_name()));
            // A campaign takes the options of jobs too.
            in_subcommand |= names_subcommand && own.len() == 1 && argument != *"campaign";
            own.push(argument);
            continue;
        };
        let (name, value) = match text[2..].split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text[2..].to_owned(), None),
        };
        if own_names.contains(&name.as_str()) {
            own.push(argument);
            continue;
        }
        if let Some((_, here)) = from_fio::SAME.iter().find(|(fio, _)| *fio == name) {
            own.push(format!("--{here}").into());
            continue;
        }
        let option = job::table().iter().find(|option| option.names().any(|known| known == name));
        if option.is_none() {
            if let Some(why) = from_fio::refusal(&name) {
                return Err(command.clone().error(clap::error::ErrorKind::UnknownArgument, why));
            }
            let near = own_names.iter().find(|own| strsim::jaro_winkler(own, &name) > 0.9);
            if let Some(near) = near {
                let why = format!("there is no option --{name}: did you mean --{near}?");
                return Err(command.clone().error(clap::error::ErrorKind::UnknownArgument, why));
            }
        }
        let value = match value {
            Some(value) => value,
            None if option.is_some_and(job::OptionDef::is_flag) => "true".to_owned(),
            None => match arguments.next_if(|next| next.to_str().is_some_and(|next| !next.starts_with("--")))
            {
                Some(next) => next.to_string_lossy().into_owned(),
                None => "true".to_owned(),
            },
        };
        overrides.push((name, value));
    }
    Ok((own, overrides))
}

fn explain(command: &mut Command, name: &str) -> Result<String, clap::Error> {
    if name == "all" {
        return Ok(job::help());
    }
    match job::explain(name) {
        Ok(text) => Ok(text),
        Err(why) => Err(command.error(clap::error::ErrorKind::InvalidValue, why)),
    }
}

fn completions(matches: &ArgMatches) -> String {
    let Some(&shell) = matches.get_one::<clap_complete::Shell>("shell") else { return String::new() };
    let mut full = command();
    for option in job::table().iter().filter(|option| option.name != "readonly") {
        full = full.arg(Arg::new(option.name).long(option.name).help(option.doc).num_args(0..=1));
    }
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut full, "fio-spdk", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::host::userspace::UserDriver;

    fn parsed(arguments: &[&str]) -> Result<Action, clap::Error> {
        parse(std::iter::once("fio-spdk").chain(arguments.iter().copied()).map(OsString::from))
    }

    fn run(arguments: &[&str]) -> Invocation {
        match parsed(arguments) {
            Ok(Action::Run(invocation)) => *invocation,
            Ok(_) => panic!("{arguments:?} is no run"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn job_options_are_taken_in_all_their_forms_and_order() {
        let invocation = run(&["a.toml", "--bs=4k", "--time_based", "--runtime", "5", "--check", "b.toml"]);
        assert_eq!(invocation.files, ["a.toml", "b.toml"]);
        let pairs = [("bs", "4k"), ("time_based", "true"), ("runtime", "5")];
        assert_eq!(invocation.overrides, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(invocation.check);
    }

    #[test]
    fn a_flag_alone_is_true_and_does_not_swallow_what_follows() {
        let invocation = run(&["--verify_only", "a.toml", "--do_verify=0", "--experimental_verify"]);
        assert_eq!(invocation.files, ["a.toml"]);
        let pairs = [("verify_only", "true"), ("do_verify", "0"), ("experimental_verify", "true")];
        assert_eq!(invocation.overrides, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        // Every flag of the table, by every name.
        for option in job::table().iter().filter(|option| option.is_flag() && option.name != "readonly") {
            for name in option.names() {
                let invocation = run(&[&format!("--{name}"), "a.toml"]);
                assert_eq!(invocation.overrides, [(name.to_owned(), "true".to_owned())]);
                assert_eq!(invocation.files, ["a.toml"]);
            }
        }
    }

    #[test]
    fn the_file_for_verdicts_is_the_tools_own_option() {
        let invocation = run(&["a.toml", "--verdicts", "found.jsonl"]);
        assert_eq!(invocation.verdicts.as_deref(), Some("found.jsonl"));
        assert!(invocation.overrides.is_empty());
        assert_eq!(run(&["a.toml"]).verdicts, None);
    }

    #[test]
    fn a_misspelt_option_of_the_tool_is_answered_with_the_right_one() {
        let Err(error) = parsed(&["a.toml", "--outptu=x"]) else { panic!("accepted") };
        assert!(error.to_string().contains("--output"), "{error}");
    }

    #[test]
    fn arguments_of_fio_are_taken_or_refused_by_name_with_what_to_do_instead() {
        assert!(run(&["a.toml", "--parse-only"]).check);
        assert_eq!(run(&["a.toml", "--section=x", "--section", "y"]).sections, ["x", "y"]);
        assert!(matches!(parsed(&["--enghelp=sim"]), Ok(Action::Print(text)) if text.contains("sim_seed")));
        for (argument, what) in [
            ("--server", "fio-spdk server"),
            ("--daemonize=x", "systemd-run"),
            ("--remote-config=x", "behind --client"),
            ("--showcmd", "--print-job"),
            ("--warnings-fatal", "leave it out"),
            ("--alloc-size=16", "no pool"),
        ] {
            let Err(error) = parsed(&["a.toml", argument]) else { panic!("{argument} is accepted") };
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn no_job_at_all_is_an_error_with_an_example() {
        let Err(error) = parsed(&[]) else { panic!("accepted") };
        assert!(error.to_string().contains("--ioengine=null"), "{error}");
    }

    #[test]
    fn a_subcommand_keeps_its_own_options() {
        assert!(matches!(parsed(&["devices", "--json"]), Ok(Action::Devices { json: true })));
        assert!(matches!(parsed(&["devices"]), Ok(Action::Devices { json: false })));
    }

    #[test]
    fn controllers_are_named_in_any_form_and_each_once() {
        let addresses = vec!["0000:5e:00.0".to_owned(), "0000:5f:00.0".to_owned()];
        let Ok(Action::Bind(request)) =
            parsed(&["devices", "bind", "5e:00.0", "0000.5F.00.0", "0000:5e:00.0", "--driver", "vfio-pci"])
        else {
            panic!("nothing is bound")
        };
        let driver = Some(UserDriver::VfioPci);
        let bind = bind::Request::Bind { addresses: addresses.clone(), driver, hugepages_mib: 512 };
        assert_eq!(request, bind);
        let Ok(Action::Bind(request)) = parsed(&["devices", "unbind", "5e:00.0", "5f:00.0"]) else {
            panic!("nothing is given back")
        };
        assert_eq!(request, bind::Request::Unbind { addresses });
    }

    #[test]
    fn a_campaign_takes_options_of_jobs_and_its_own() {
        let Ok(Action::Campaign(request)) = parsed(&[
            "campaign",
            "a.toml",
            "--bs=8k",
            "--destroy",
            "S1",
            "--runtime",
            "5",
            "--destroy=S2",
            "--check",
        ]) else {
            panic!("no campaign")
        };
        assert_eq!((request.file.as_str(), request.check), ("a.toml", true));
        let pairs = [("bs", "8k"), ("runtime", "5")];
        assert_eq!(request.overrides, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(request.destroy, ["S1", "S2"]);
        assert!(parsed(&["campaign"]).is_err() && parsed(&["campaign", "a", "b"]).is_err());
        assert!(parsed(&["campaign", "a", "--output=x"]).is_err(), "reports go into the evidence");
    }

    #[test]
    fn the_command_is_well_formed_with_all_completions() {
        command().debug_assert();
        let Ok(Action::Print(script)) = parsed(&["completions", "bash"]) else { panic!("no script") };
        assert!(script.contains("--iodepth"));
    }
}
