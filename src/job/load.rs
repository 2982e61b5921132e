//! Job files, from disk.

use std::fs::File;
use std::io::{self, Read};

use super::campaign::CampaignSpec;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::spec::JobSpec;

/// A job file that is larger than this is something else.
const MAX_BYTES: u64 = 16 << 20;

/// Reads job files (`-` is standard input) and parses them: see [`super::parse`].
///
/// # Errors
/// Every file that cannot be read, or else every mistake in the files and on the command line.
pub fn load(paths: &[String], overrides: &[(String, String)]) -> Result<Vec<JobSpec>, Diagnostics> {
    super::parse(&texts(paths)?, overrides)
}

/// Reads job files (`-` is standard input): the name and text of each, as [`super::parse`] takes them.
///
/// # Errors
/// Every file that cannot be read.
pub fn texts(paths: &[String]) -> Result<Vec<(String, String)>, Diagnostics> {
    let mut files = Vec::new();
    let mut failed = Vec::new();
    for path in paths {
        match read(path) {
            Ok(file) => files.push(file),
            Err(one) => failed.push(*one),
        }
    }
    if failed.is_empty() { Ok(files) } else { Err(Diagnostics::new(failed)) }
}

/// Reads the file of a campaign and parses it: see [`super::parse_campaign`]. Gives its text too.
///
/// # Errors
/// If it cannot be read, or else every mistake in it and on the command line.
pub fn load_campaign(
    path: &str,
    overrides: &[(String, String)],
) -> Result<(Vec<JobSpec>, CampaignSpec, String), Diagnostics> {
    let file = read(path).map_err(|one| Diagnostics::new(vec![*one]))?;
    let (jobs, campaign) = super::parse_campaign(&file, overrides)?;
    Ok((jobs, campaign, file.1))
}

fn read(path: &str) -> Result<(String, String), Box<Diagnostic>> {
    let name = if path == "-" { "standard input" } else { path };
    let wrong = |message: String, help: Option<&str>| {
        Box::new(Diagnostic::of_file(name, message, help.map(str::to_owned)))
    };
    let mut bytes = Vec::new();
    let outcome = if path == "-" {
        io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
    };
    if let Err(why) = outcome {
        let help = match why.kind() {
            io::ErrorKind::NotFound => Some("a job file is a TOML file with a `[[job]]` for each job"),
            io::ErrorKind::IsADirectory => Some("name a file in it"),
            _ => None,
        };
        return Err(wrong(format!("cannot read the job file `{path}`: {why}"), help));
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong(
            format!("`{name}` is larger than {} MiB", MAX_BYTES >> 20),
            Some("is this a job file, or the target of one?"),
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name.to_owned(), text)),
        Err(why) => {
            let at = why.utf8_error().valid_up_to();
            let line = why.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
            Err(wrong(format!("`{name}` is no text: line {line} is not valid UTF-8"), None))
        }
    }
}
