//! `fio-spdk server`: runs of others, on this machine.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::remote::address::Address;
use crate::remote::server;
use crate::remote::settings::Settings;

use super::{EXIT_IO, EXIT_OK, EXIT_USAGE};

/// What to serve.
#[derive(Debug)]
pub struct Request {
    config: Option<PathBuf>,
    listen: Vec<String>,
}

/// The subcommand.
pub fn command() -> Command {
    Command::new("server")
        .about("Run the jobs of others, who drive them over the network")
        .arg(Arg::new("config").long("config").value_name("FILE").help("server.toml, if not the usual one"))
        .arg(
            Arg::new("listen")
                .long("listen")
                .value_name("ADDRESS")
                .action(ArgAction::Append)
                .help("Listen there instead of where server.toml says"),
        )
}

/// What was asked for.
pub fn request(matches: &ArgMatches) -> Request {
    Request {
        config: matches.get_one::<String>("config").map(PathBuf::from),
        listen: matches.get_many::<String>("listen").into_iter().flatten().cloned().collect(),
    }
}

/// Serves; gives the exit code.
pub fn run(request: &Request) -> u8 {
    let settings = Settings::load(request.config.as_deref()).and_then(|mut settings| {
        let listen: Result<Vec<Address>, String> =
            request.listen.iter().map(|text| Address::parse(text)).collect();
        let listen = listen?;
        if !listen.is_empty() {
            settings.listen = listen;
        }
        Ok(settings)
    });
    let settings = match settings {
        Ok(settings) => settings,
        Err(why) => {
            eprintln!("error: {why}");
            return EXIT_USAGE;
        }
    };
    match server::serve(settings) {
        Ok(()) => EXIT_OK,
        Err(why) => {
            eprintln!("error: {why}");
            EXIT_IO
        }
    }
}
