//! What the user typed about servers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::base::host::printable;
use crate::cli::args::Invocation;
use crate::cli::report_args;
use crate::remote::VANISHED_AFTER;
use crate::remote::address::Address;
use crate::remote::connect::Trust;

/// How long a server is tried to be reached, unless the user says another time.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A longer list of servers is something else.
const LONGEST_LIST: u64 = 1 << 20;

/// `--client` and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// What each `--client` says, and its own job files.
    pub named: Vec<(String, Vec<String>)>,
    /// Job files for all of them.
    pub common: Vec<String>,
    /// How they are reached.
    pub reach: Reach,
}

/// How servers are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// `--keys` and `--server-user`.
    pub trust: Trust,
    /// `--connect-timeout`.
    pub connect_within: Duration,
    /// `--server-timeout`.
    pub silence: Duration,
}

/// What to do, but to run jobs.
pub enum Request {
    /// `fio-spdk attach`.
    Attach {
        /// The servers.
        addresses: Vec<Address>,
        /// `--run`, or empty.
        run: String,
        /// `--watch`.
        watch: bool,
        /// `--state_dir`.
        state_dir: PathBuf,
        /// `--keys` and timeouts.
        reach: Reach,
        /// What is shown and written.
        shown: Box<Invocation>,
    },
    /// `fio-spdk stop`.
    Stop {
        /// The server.
        address: Address,
        /// `--run`, or empty.
        run: String,
        /// `--keys` and timeouts.
        reach: Reach,
    },
    /// `fio-spdk server --status`.
    Status {
        /// `--client` or `--listen`; without, the local one by its `server.toml`.
        address: Option<Address>,
        /// `--config`: which `server.toml`.
        config: Option<PathBuf>,
        /// `--json`.
        json: bool,
        /// `--keys` and timeouts.
        reach: Reach,
    },
}

fn reach_arguments() -> [Arg; 3] {
    [
        Arg::new("keys")
            .long("keys")
            .value_name("DIR")
            .help("The certificates to show and to trust, as `fio-spdk server --init` makes them"),
        Arg::new("server-user")
            .long("server-user")
            .value_name("UID")
            .value_parser(clap::value_parser!(u32))
            .help("Trust the server of this user at a unix socket, beside root's and your own"),
        Arg::new("connect-timeout")
            .long("connect-timeout")
            .value_name("TIME")
            .help("Try to reach a server for so long [default: 10s]"),
    ]
}

fn silence_argument() -> Arg {
    Arg::new("server-timeout")
        .long("server-timeout")
        .value_name("TIME")
        .help("A server that is silent for so long has vanished [default: 10s]")
}

fn run_argument() -> Arg {
    Arg::new("run").long("run").value_name("ID").help("This run, by the beginning of its id")
}

/// The arguments of a run on servers.
pub fn arguments() -> impl Iterator<Item = Arg> {
    let client = Arg::new("client").long("client").value_name("ADDRESS").action(ArgAction::Append).help(
        "Run on this server: dut1, dut2:8765, [::1]:8765, unix:/path, or a file with an address a line. \
         Job files before the first --client are for all servers, those behind one (or several) for these",
    );
    let rest = reach_arguments().into_iter().chain([silence_argument()]);
    std::iter::once(client).chain(rest.map(|argument| argument.requires("client")))
}

/// The subcommands.
pub fn commands() -> [Command; 2] {
    let hosts =
        Arg::new("address").value_name("ADDRESS").required(true).help("dut1, dut2:8765 or unix:/path");
    [
        Command::new("attach")
            .about("Go on with a run that a server does, or watch it; or fetch what one that has ended has left")
            .after_help(
                "A run that nobody drives any more (`detach`) is taken over: its snapshots are stored here, and \
                 Ctrl-C ends it. One that somebody drives is watched. Exit codes are those of the run.",
            )
            .arg(hosts.clone().num_args(1..))
            .arg(run_argument())
            .arg(
                Arg::new("watch")
                    .long("watch")
                    .action(ArgAction::SetTrue)
                    .help("Only watch, even if nobody drives the run"),
            )
            .arg(
                Arg::new("state_dir")
                    .long("state_dir")
                    .alias("state-dir")
                    .value_name("DIR")
                    .default_value(".")
                    .help("Where snapshots are stored"),
            )
            .args(report_args::arguments())
            .args(reach_arguments())
            .arg(silence_argument()),
        Command::new("stop")
            .about("End a run that a server does, in order; a second time does not wait for its devices")
            .arg(hosts)
            .arg(run_argument())
            .args(reach_arguments()),
    ]
}

/// What `fio-spdk server --status` takes besides.
pub fn status_arguments() -> impl Iterator<Item = Arg> {
    let client = Arg::new("client").long("client").value_name("ADDRESS|NAME").requires("asked").help(
        "With --status: of this server, not of the local one. With --init: make a certificate for one more \
         client, which logs and --status call NAME",
    );
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON");
    let own = [json].into_iter().chain(reach_arguments());
    std::iter::once(client).chain(own.map(|argument| argument.requires("status")))
}

/// Reads a subcommand.
pub fn request(name: &str, matches: &ArgMatches) -> Result<Request, String> {
    let run = || matches.get_one::<String>("run").cloned().unwrap_or_default();
    let first = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    match name {
        "attach" => {
            let texts = matches.get_many::<String>("address").into_iter().flatten();
            let addresses: Vec<Address> = texts.map(|text| Address::parse(text)).collect::<Result<_, _>>()?;
            if let Some(twice) = twice(addresses.iter()) {
                return Err(format!("{twice} is named twice"));
            }
            Ok(Request::Attach {
                addresses,
                run: run_id(run())?,
                watch: matches.get_flag("watch"),
                state_dir: first("state_dir").unwrap_or(".").into(),
                reach: reach(matches)?,
                shown: Box::new(report_args::read(matches)?),
            })
        }
        "stop" => Ok(Request::Stop {
            address: Address::parse(first("address").unwrap_or_default())?,
            run: run_id(run())?,
            reach: reach(matches)?,
        }),
        _ => Ok(Request::Status {
            address: match first("client") {
                Some(client) => Some(Address::parse(client)?),
                None => matches.get_one::<Address>("listen").cloned(),
            },
            config: matches.get_one::<PathBuf>("config").cloned(),
            json: matches.get_flag("json"),
            reach: reach(matches)?,
        }),
    }
}

/// The beginning of a run's id, in small letters.
fn run_id(text: String) -> Result<String, String> {
    if text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!(
        "--run={}: expected the beginning of a run's id, up to 32 hexadecimal digits",
        printable(&text)
    ))
}

fn reach(matches: &ArgMatches) -> Result<Reach, String> {
    let time = |name: &str| match matches.try_contains_id(name) {
        Ok(true) => report_args::time(matches, name, 1),
        _ => Ok(None),
    };
    Ok(Reach {
        trust: Trust {
            keys: matches.get_one::<String>("keys").map(PathBuf::from),
            socket_user: matches.get_one::<u32>("server-user").copied(),
        },
        connect_within: time("connect-timeout")?.unwrap_or(CONNECT_WITHIN),
        silence: time("server-timeout")?.unwrap_or(VANISHED_AFTER),
    })
}

/// `--client` with the job files that stand before and behind it; `None` without any.
pub fn clients(matches: &ArgMatches) -> Result<Option<Clients>, String> {
    let (Some(texts), Some(at)) = (matches.get_many::<String>("client"), matches.indices_of("client")) else {
        return Ok(None);
    };
    // In the order in which they were typed.
    let mut typed: Vec<(usize, bool, &String)> = at.zip(texts).map(|(at, text)| (at, true, text)).collect();
    if let (Some(files), Some(at)) = (matches.get_many::<String>("files"), matches.indices_of("files")) {
        typed.extend(at.zip(files).map(|(at, file)| (at, false, file)));
    }
    typed.sort_by_key(|(at, ..)| *at);
    let mut found = Clients { named: Vec::new(), common: Vec::new(), reach: reach(matches)? };
    // Those that the next file is for begin here.
    let (mut first, mut before_was_file) = (0, true);
    for (_, is_client, text) in typed {
        match (is_client, found.named.is_empty()) {
            (true, _) => {
                if before_was_file {
                    first = found.named.len();
                }
                found.named.push((text.clone(), Vec::new()));
            }
            (false, true) => found.common.push(text.clone()),
            (false, false) => {
                found.named[first..].iter_mut().for_each(|(_, files)| files.push(text.clone()));
            }
        }
        before_was_file = !is_client;
    }
    Ok(Some(found))
}

impl Clients {
    /// Each server with its job files, those for all first.
    ///
    /// # Errors
    /// An address or a list that cannot be read, a server named twice, one without anything to do.
    pub fn servers(&self, has_options: bool) -> Result<Vec<(Address, Vec<String>)>, String> {
        let mut found: Vec<(Address, Vec<String>)> = Vec::new();
        for (text, own) in &self.named {
            let files: Vec<String> = self.common.iter().chain(own).cloned().collect();
            for address in addresses(text)? {
                if files.is_empty() && !has_options {
                    return Err(format!(
                        "no job file for {address}: name it before the first --client, or behind this one"
                    ));
                }
                found.push((address, files.clone()));
            }
        }
        match twice(found.iter().map(|(address, _)| address)) {
            Some(address) => Err(format!(
                "--client={address} stands twice: name it once, with all its job files behind it"
            )),
            None => Ok(found),
        }
    }
}

fn twice<'a>(addresses: impl Iterator<Item = &'a Address>) -> Option<&'a Address> {
    let mut seen = std::collections::HashSet::new();
    addresses.into_iter().find(|address| !seen.insert(*address))
}

/// One address, or those of a file that is called so.
fn addresses(text: &str) -> Result<Vec<Address>, String> {
    if !Path::new(text).is_file() {
        return Address::parse(text).map(|address| vec![address]).map_err(|why| format!("--client: {why}"));
    }
    let shown = printable(text);
    let wrong = |why: String| format!("--client={shown}: the list of servers cannot be read: {why}");
    let length = std::fs::metadata(text).map_err(|why| wrong(why.to_string()))?.len();
    if length > LONGEST_LIST {
        return Err(wrong("it is longer than 1 MiB".to_owned()));
    }
    let list = std::fs::read_to_string(text).map_err(|why| wrong(why.to_string()))?;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(list.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let address = Address::parse(line).map_err(|why| {
            format!(
                "--client={shown} is a file here, taken for a list of servers: line {number}: {why} (a host of \
                 that name is {shown}:{})",
                crate::remote::PORT
            )
        })?;
        found.push(address);
    }
    match found.is_empty() {
        true => Err(format!("--client={shown}: there is no address in this list of servers")),
        false => Ok(found),
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
