//! Arguments about what is shown and written of a run, whoever does it.

use std::time::Duration;

use clap::{Arg, ArgMatches};

use crate::base::units::{SECOND_NS, parse_time_ns};
use crate::report;

use super::args::{Eta, Invocation};

/// The shortest time between two live lines.
const SHORTEST_ETA_NS: u64 = 100_000_000;

/// The arguments.
pub fn arguments() -> [Arg; 8] {
    [
        Arg::new("output-format")
            .long("output-format")
            .value_name("FORMAT")
            .default_value("normal")
            .help("normal, json, json+, or several: normal,json"),
        Arg::new("output").long("output").short('o').value_name("FILE").help("Write the report to a file"),
        Arg::new("same-devices")
            .long("same-devices")
            .value_name("FILE")
            .help(
                "Record in FILE what the devices are (serial number, model, size, world-wide name); if FILE exists, \
                 refuse to run (exit code 6) where another device is in the place of one",
            ),
        Arg::new("verdicts")
            .long("verdicts")
            .value_name("FILE")
            .help("Write every violation that verification finds to a file, one line of JSON each"),
        Arg::new("status-interval")
            .long("status-interval")
            .value_name("TIME")
            .help("Report the statistics so far this often (with json: one document a line)"),
        Arg::new("eta")
            .long("eta")
            .value_name("WHEN")
            .value_parser(["auto", "always", "never"])
            .default_value("auto")
            .help("Show a live line: auto is on a terminal"),
        Arg::new("eta-interval")
            .long("eta-interval")
            .value_name("TIME")
            .help("Renew the live line this often, at least 100ms [default: 500ms]"),
        Arg::new("eta-newline")
            .long("eta-newline")
            .value_name("TIME")
            .help("Keep a copy of the live line this often: go on in a new one"),
    ]
}

/// An invocation with what they say, and nothing else.
pub fn read(matches: &ArgMatches) -> Result<Invocation, String> {
    let formats = matches.get_one::<String>("output-format").map_or("normal", String::as_str);
    Ok(Invocation {
        formats: report::parse_formats(formats)?,
        output: matches.get_one::<String>("output").cloned(),
        same_devices: matches.get_one::<String>("same-devices").map(Into::into),
        verdicts: matches.get_one::<String>("verdicts").cloned(),
        status_interval: time(matches, "status-interval", 1)?,
        eta_interval: time(matches, "eta-interval", SHORTEST_ETA_NS)?,
        eta_newline: time(matches, "eta-newline", 1)?,
        eta: match matches.get_one::<String>("eta").map(String::as_str) {
            Some("always") => Eta::Always,
            Some("never") => Eta::Never,
            _ => Eta::Auto,
        },
        ..Invocation::default()
    })
}

/// The time that an argument gives, at least `least_ns`: 1 or [`SHORTEST_ETA_NS`].
pub fn time(matches: &ArgMatches, name: &str, least_ns: u64) -> Result<Option<Duration>, String> {
    let Some(text) = matches.get_one::<String>(name) else { return Ok(None) };
    let least = if least_ns == 1 { "a time above 0" } else { "a time of at least 100ms" };
    let ns = parse_time_ns(text, SECOND_NS)
        .and_then(|ns| if ns < least_ns { Err(format!("expected {least}")) } else { Ok(ns) })
        .map_err(|why| format!("--{name}={text}: {why}"))?;
    Ok(Some(Duration::from_nanos(ns)))
}
