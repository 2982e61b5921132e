//! `fio-spdk server`: what runs beside the drives.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};

use crate::cli::streams::stderr_line;
use crate::cli::{EXIT_IO, EXIT_OK, EXIT_USAGE, output};
use crate::remote::address::Address;
use crate::remote::keys;
use crate::remote::server;
use crate::remote::settings::Settings;

/// What to do, on which server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub what: What,
    /// `server.toml`, if not the usual one.
    pub config: Option<PathBuf>,
    /// Where to listen, above what `server.toml` says.
    pub listen: Vec<Address>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Serve.
    Serve,
    /// Make certificates.
    Init {
        /// More names and addresses of this server.
        names: Vec<String>,
        /// An authority that is there.
        ca: Option<PathBuf>,
    },
    /// Make a certificate for one more client.
    InitClient {
        /// What it is called.
        name: String,
        /// The authority, if not the one beside this server's certificate.
        ca: Option<PathBuf>,
    },
}

/// The subcommand.
pub fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("server")
        .about("Run jobs beside the drives for clients on other machines")
        .after_help(
            "The server does and allows what server.toml says: in /etc/fio-spdk for root, in ~/.config/fio-spdk for \
             others. Over TCP both sides show certificates, which --init makes, and says where to copy them; a socket \
             (unix:/path) is for root and the server's own user.\n\n\
             Exit codes: 0 done, 2 command line or server.toml wrong, 4 the machine or the certificates are in the way.",
        )
        .arg(flag("init", "Make an authority, a certificate for this server and one for clients, and server.toml"))
        .arg(
            flag("status", "Show what the server of this machine does and has done, and what it allows")
                .conflicts_with("init"),
        )
        .args(super::remote::args::status_arguments())
        .group(ArgGroup::new("asked").args(["init", "status"]))
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("server.toml; with --init, certificates are made beside it"),
        )
        .arg(
            Arg::new("listen")
                .long("listen")
                .value_name("ADDRESS")
                .action(ArgAction::Append)
                .value_parser(Address::parse)
                .conflicts_with("init")
                .help("Listen here, instead of where server.toml says: 0.0.0.0, dut1:8765, unix:/path; several are possible"),
        )
        .arg(
            Arg::new("name")
                .long("name")
                .value_name("NAME")
                .action(ArgAction::Append)
                .requires("init")
                .conflicts_with("client")
                .help("With --init: one more name or address that clients call this server by; several are possible"),
        )
        .arg(
            Arg::new("ca")
                .long("ca")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .requires("init")
                .help("With --init: sign with the ca.pem and ca.key there, so that one client's certificate serves several servers"),
        )
}

/// What was typed.
pub fn request(matches: &ArgMatches) -> Request {
    let ca = matches.get_one::<PathBuf>("ca").cloned();
    let names = || matches.get_many::<String>("name").into_iter().flatten().cloned().collect();
    let what = match (matches.get_flag("init"), matches.get_one::<String>("client")) {
        (true, Some(name)) => What::InitClient { name: name.clone(), ca },
        (true, None) => What::Init { names: names(), ca },
        (false, _) => What::Serve,
    };
    Request {
        what,
        config: matches.get_one::<PathBuf>("config").cloned(),
        listen: matches.get_many::<Address>("listen").into_iter().flatten().cloned().collect(),
    }
}

/// Does it; gives the exit code.
pub fn run(request: &Request) -> u8 {
    match &request.what {
        What::Init { names, ca } => return init(made(request, names, ca.as_ref())),
        What::InitClient { name, ca } => return init(made_for_client(request, name, ca.as_ref())),
        What::Serve => {}
    }
    let mut settings = match Settings::load(request.config.as_deref()) {
        Ok(settings) => settings,
        Err(why) => {
            stderr_line!("error: {why}");
            return EXIT_USAGE;
        }
    };
    if !request.listen.is_empty() {
        settings.listen.clone_from(&request.listen);
    }
    serve(settings)
}

/// `--init`.
fn init(made: Result<String, String>) -> u8 {
    match made {
        Ok(text) => output::print(&text),
        Err(why) => {
            stderr_line!("error: {why}");
            EXIT_IO
        }
    }
}

fn made(request: &Request, names: &[String], ca: Option<&PathBuf>) -> Result<String, String> {
    keys::init(&keys::Wanted { settings: settings_of(request)?, names: names.to_vec(), ca: whole(ca)? })
}

fn made_for_client(request: &Request, name: &str, ca: Option<&PathBuf>) -> Result<String, String> {
    let authority = match whole(ca)? {
        Some(ca) => ca,
        None => settings_of(request)?.tls,
    };
    keys::init_client(name, &authority)
}

/// What is there, or will be: a file that is there says where certificates are.
fn settings_of(request: &Request) -> Result<Settings, String> {
    let file = request.config.clone().unwrap_or_else(Settings::usual_file);
    match file.exists() {
        true => Settings::load(Some(&file)),
        false => {
            let file = std::path::absolute(&file).map_err(|why| format!("{}: {why}", file.display()))?;
            Ok(Settings::new(file))
        }
    }
}

fn whole(ca: Option<&PathBuf>) -> Result<Option<PathBuf>, String> {
    ca.map(std::path::absolute).transpose().map_err(|why| format!("--ca: {why}"))
}

/// Serves until it is told to end.
fn serve(settings: Settings) -> u8 {
    match server::serve(settings) {
        Ok(()) => EXIT_OK,
        Err(why) => {
            stderr_line!("error: {why}");
            EXIT_IO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(arguments: &[&str]) -> Result<Request, clap::Error> {
        let matches =
            command().try_get_matches_from(std::iter::once("server").chain(arguments.iter().copied()))?;
        Ok(request(&matches))
    }

    #[test]
    fn what_is_typed_is_what_is_asked() {
        let plain = typed(&[]).unwrap();
        assert_eq!(plain, Request { what: What::Serve, config: None, listen: Vec::new() });
        let told = typed(&["--listen=0.0.0.0", "--listen", "unix:/run/f", "--config=/x/s.toml"]).unwrap();
        assert_eq!(
            told.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["0.0.0.0", "unix:/run/f"]
        );
        assert_eq!(told.config, Some("/x/s.toml".into()));
        let init = typed(&["--init", "--name=dut1.lab", "--name=10.0.0.5", "--ca=/ca"]).unwrap();
        let names = vec!["dut1.lab".to_owned(), "10.0.0.5".to_owned()];
        assert_eq!(init.what, What::Init { names, ca: Some("/ca".into()) });
        let one = typed(&["--init", "--client=anna"]).unwrap();
        assert_eq!(one.what, What::InitClient { name: "anna".to_owned(), ca: None });
        for wrong in [
            &["--name=x"][..],
            &["--init", "--status"],
            &["--listen=a b"],
            &["--init", "--listen=x"],
            &["--client=anna"],
            &["--init", "--client=anna", "--name=x"],
        ] {
            assert!(typed(wrong).is_err(), "{wrong:?}");
        }
        assert!(typed(&["--listen=a:b:c"]).unwrap_err().to_string().contains("too many colons"));
    }
}
