//! `server --init`: an authority, and what it signs for a server and its clients.
//!
//! Everything is made in memory. Each file is written whole under another name, then linked to its own,
//! which fails if that is taken; the server's certificate comes last, and no server starts without.

mod client;

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::names::{self, quoted};
use super::{CA, CA_KEY, CLIENT, CLIENT_KEY, SERVER, SERVER_KEY};
use crate::remote::settings::{self, Settings};

pub use client::init_client;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The settings that it is for: where they are, and where certificates are.
    pub settings: Settings,
    /// More names and addresses of the server.
    pub names: Vec<String>,
    /// The directory of an authority that is there; a new one without.
    pub ca: Option<PathBuf>,
}

const DAY: Duration = Duration::from_secs(86_400);
/// Clocks of machines that lose their power differ.
const BEFORE: Duration = Duration::from_secs(2 * 86_400);
const YEARS_CA: u32 = 10;
const YEARS: u32 = 5;

/// A file on its way.
struct Piece {
    name: &'static str,
    text: String,
    mode: u32,
}

impl Piece {
    fn shown(name: &'static str, text: String) -> Piece {
        Piece { name, text, mode: 0o644 }
    }

    fn secret(name: &'static str, key: &KeyPair) -> Piece {
        Piece { name, text: pem("PRIVATE KEY", key.serialized_der()), mode: 0o600 }
    }

    fn certificate(name: &'static str, certificate: &Certificate) -> Piece {
        Piece::shown(name, pem("CERTIFICATE", certificate.der()))
    }
}

/// DER as PEM with that label.
fn pem(label: &str, der: &[u8]) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), lines)
}

/// Makes certificates and their keys, and `server.toml` if it is not there. Gives what the user is to
/// read: what was made, and what is to be copied where. Overwrites nothing.
///
/// # Errors
/// Why nothing was made, and what to do.
pub fn init(wanted: &Wanted) -> Result<String, String> {
    let directory = &wanted.settings.tls;
    let names = names::all(&wanted.names)?;
    prepare(directory)?;
    refuse_what_is_there(wanted)?;
    let broken = |why: rcgen::Error| format!("the certificates cannot be made: {why}");
    let mut pieces = Vec::new();
    let issuer = match &wanted.ca {
        Some(ca) => {
            let (issuer, text) = authority_of(ca)?;
            pieces.extend(authority_copy(ca, directory, text)?);
            issuer
        }
        None => {
            let key = KeyPair::generate().map_err(broken)?;
            let certificate = authority(&key).map_err(broken)?;
            pieces.push(Piece::secret(CA_KEY, &key));
            pieces.push(Piece::certificate(CA, &certificate));
            let issuer = Issuer::from_ca_cert_der(certificate.der(), key).map_err(broken)?;
            let (client, key) = signed(&issuer, &client_name(), &[], false).map_err(broken)?;
            pieces.push(Piece::secret(CLIENT_KEY, &key));
            pieces.push(Piece::certificate(CLIENT, &client));
            issuer
        }
    };
    let (server, key) = signed(&issuer, &names[0], &names, true).map_err(broken)?;
    pieces.push(Piece::secret(SERVER_KEY, &key));
    let file = &wanted.settings.file;
    let has_settings = file.exists();
    if !has_settings && let Some(parent) = file.parent() {
        prepare(parent)?;
        // With an authority of elsewhere, this may be made where the authority is, for another machine.
        let text = settings::template(&wanted.settings, wanted.ca.is_some());
        let made = put(parent, settings::FILE, &text, 0o644);
        made.map_err(|why| format!("{}: {why}", file.display()))?;
    }
    pieces.push(Piece::certificate(SERVER, &server));
    place(directory, &pieces)?;
    Ok(told(wanted, &names, has_settings))
}

/// Makes the directory if it is not there; one that others may write to is none for keys.
fn prepare(directory: &Path) -> Result<(), String> {
    let failed = |why: std::io::Error| format!("the directory {}: {why}", directory.display());
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let mode = fs::metadata(directory).map_err(failed)?.mode();
    if mode & 0o022 != 0 {
        let path = quoted(directory);
        return Err(format!("others may write to {path}, so no key is safe in it: chmod go-w {path}"));
    }
    Ok(())
}

/// Says what is in the way, and what to do about it.
fn refuse_what_is_there(wanted: &Wanted) -> Result<(), String> {
    let directory = &wanted.settings.tls;
    let there = |names: &[&'static str]| -> Vec<&'static str> {
        // A link that leads nowhere is in the way, too.
        names.iter().copied().filter(|name| directory.join(name).symlink_metadata().is_ok()).collect()
    };
    let new: &[&str] = match wanted.ca {
        Some(_) => &[SERVER_KEY, SERVER],
        None => &[CA_KEY, CA, CLIENT_KEY, CLIENT, SERVER_KEY, SERVER],
    };
    let found = there(new);
    if found.is_empty() {
        return Ok(());
    }
    let place = quoted(directory);
    let remove = format!(
        "rm -f {}",
        found.iter().map(|name| quoted(&directory.join(name))).collect::<Vec<_>>().join(" ")
    );
    let mut text = format!("in {place} there is {} already, and nothing is overwritten.", found.join(", "));
    if found.contains(&SERVER) {
        let _ = write!(text, " To use what is there: fio-spdk server.");
        if wanted.ca.is_none() {
            let _ = write!(
                text,
                " To make only the server's certificate anew, for another --name for instance: rm -f {} {}, and \
                 again with --ca={place}.",
                quoted(&directory.join(SERVER)),
                quoted(&directory.join(SERVER_KEY))
            );
        }
        let _ = write!(text, " To begin anew, so that no client comes in with what it has: {remove}");
    } else {
        let _ = write!(text, " {SERVER} is missing: making them was cut off, or it was removed.");
        let _ = write!(text, " To begin anew: {remove}");
        if wanted.ca.is_none()
            && found.contains(&CA)
            && found.contains(&CA_KEY)
            && !found.contains(&SERVER_KEY)
        {
            let _ = write!(text, "; to sign with the authority that is there: again with --ca={place}");
        }
    }
    Err(text)
}

fn client_name() -> String {
    format!("client of {}", names::host())
}

fn days(from: SystemTime) -> Duration {
    from.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A certificate of that name for so many years; a server's if it has names.
fn params(name: &str, years: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    // No name of a subject is longer (X.520).
    subject.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    params.distinguished_name = subject;
    let now = days(SystemTime::now());
    params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(BEFORE);
    params.not_after = date_time_ymd(1970, 1, 1) + now + DAY * (years * 365 + years / 4);
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority(key: &KeyPair) -> Result<Certificate, rcgen::Error> {
    let mut params = params(&format!("fio-spdk authority of {}", names::host()), YEARS_CA);
    // It signs servers and clients, and no further authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.self_signed(key)
}

fn signed(
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    names: &[String],
    is_server: bool,
) -> Result<(Certificate, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = params(name, YEARS);
    params.subject_alt_names = CertificateParams::new(names.to_vec())?.subject_alt_names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match is_server {
        true => ExtendedKeyUsagePurpose::ServerAuth,
        false => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    Ok((params.signed_by(&key, issuer)?, key))
}

/// An authority that is there, and its certificate as text.
fn authority_of(directory: &Path) -> Result<(Issuer<'static, KeyPair>, String), String> {
    let place = |name: &str| directory.join(name).display().to_string();
    let (text, _) = super::read(&directory.join(CA)).map_err(|why| format!("--ca: {why}"))?;
    let (key, mode) = super::read(&directory.join(CA_KEY)).map_err(|why| format!("--ca: {why}"))?;
    if mode & 0o077 != 0 {
        let path = quoted(&directory.join(CA_KEY));
        return Err(format!("{path} can be read by others: if nobody has read it: chmod 600 {path}"));
    }
    super::check_dates(&super::certificates(&directory.join(CA))?[0], &directory.join(CA))?;
    let text = String::from_utf8(text).map_err(|_| format!("{} is no text", place(CA)))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|why| format!("{}: {why}", place(CA_KEY)))?;
    let key = KeyPair::try_from(&key).map_err(|why| format!("{}: {why}", place(CA_KEY)))?;
    let certified = super::certificates(&directory.join(CA))?;
    let public = key.public_key_raw();
    if !certified[0].windows(public.len()).any(|window| window == public) {
        return Err(format!("{} is not the key of {}", place(CA_KEY), place(CA)));
    }
    let issuer =
        Issuer::from_ca_cert_der(&certified[0], key).map_err(|why| format!("{}: {why}", place(CA)))?;
    Ok((issuer, text))
}

/// The authority's certificate for beside the server's, unless it is there.
fn authority_copy(ca: &Path, directory: &Path, text: String) -> Result<Option<Piece>, String> {
    match fs::read_to_string(directory.join(CA)) {
        Ok(there) if there == text => Ok(None),
        Ok(_) => Err(format!(
            "{} is of another authority than {}: its clients would not come in any more; to have it so, remove it",
            directory.join(CA).display(),
            ca.join(CA).display()
        )),
        Err(_) => Ok(Some(Piece::shown(CA, text))),
    }
}

/// Puts all pieces into place, or none.
fn place(directory: &Path, pieces: &[Piece]) -> Result<(), String> {
    for (index, piece) in pieces.iter().enumerate() {
        if let Err(why) = put(directory, piece.name, &piece.text, piece.mode) {
            for placed in &pieces[..index] {
                let _ = fs::remove_file(directory.join(placed.name));
            }
            return Err(format!("{}: {why}; nothing was made", directory.join(piece.name).display()));
        }
    }
    Ok(())
}

/// Writes a file that appears whole or not at all, and never in another's place.
fn put(directory: &Path, name: &str, text: &str, mode: u32) -> std::io::Result<()> {
    let made = directory.join(format!(".{name}.{}", std::process::id()));
    match fs::remove_file(&made) {
        Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&made)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&made, directory.join(name)));
    let _ = fs::remove_file(&made);
    linked.and_then(|()| File::open(directory)?.sync_all())
}

/// What the user reads.
fn told(wanted: &Wanted, names: &[String], has_settings: bool) -> String {
    let directory = quoted(&wanted.settings.tls);
    let file = quoted(&wanted.settings.file);
    let host = &names[0];
    let is_new = wanted.ca.is_none();
    let mut text = format!("Made in {directory}:\n");
    if is_new {
        let _ = writeln!(text, "  {CA}, {CA_KEY}          the authority that signs, for {YEARS_CA} years");
    }
    let _ = writeln!(text, "  {SERVER}, {SERVER_KEY}  this server, for {YEARS} years: {}", names.join(", "));
    if is_new {
        let _ = writeln!(text, "  {CLIENT}, {CLIENT_KEY}  who may drive it, for {YEARS} years");
    }
    let _ = match has_settings {
        true => writeln!(text, "{file} was there and is as it was."),
        false => writeln!(text, "{file} says what the server does and allows: nothing yet."),
    };
    if is_new {
        let own = "~/.config/fio-spdk";
        let copy = |to: &str| copies(host, &wanted.settings.tls, &[CA, CLIENT, CLIENT_KEY], to);
        let _ = write!(
            text,
            "\nOn the client's machine:\n  mkdir -p -m 700 {own}\n  {}\n\
             or, if it knows servers of other authorities too:\n  mkdir -p -m 700 {own}/{host}\n  {}\n\
             \nA client more, with a name of its own: fio-spdk server --init --client=NAME{}\n\
             The authority's key signs for more servers, too, so that one client's certificate serves all of them\n\
             (there: fio-spdk server --init --ca=DIRECTORY). No server needs it to run; keep it where nobody else \
             comes to:\n  {} && ssh {}{host} rm {directory}/{CA_KEY}\n",
            copy(&format!("{own}/")),
            copy(&format!("{own}/{host}/")),
            config_argument(wanted),
            copies(host, &wanted.settings.tls, &[CA, CA_KEY], "SAFE-PLACE/"),
            user(),
        );
    } else {
        let ca = wanted.ca.as_deref().map(quoted).unwrap_or_default();
        let _ =
            write!(text, "\nClients whose certificate the authority in {ca} has signed need nothing new.\n");
        if wanted.ca.as_deref() != Some(wanted.settings.tls.as_path()) {
            let _ = writeln!(
                text,
                "No server needs the authority's key: if {ca}/{CA_KEY} is a copy on it, remove it."
            );
        }
    }
    let _ = write!(
        text,
        "\nNext:\n  {file}: where it listens, which devices and commands it allows\n  fio-spdk server{}\n  \
         fio-spdk JOB.toml --client={host}     (on the client's machine)\n",
        config_argument(wanted)
    );
    text
}

/// What belongs behind `fio-spdk server` for these settings to be read.
fn config_argument(wanted: &Wanted) -> String {
    match wanted.settings.file == settings::config_directory().join(settings::FILE) {
        true => String::new(),
        false => format!(" --config={}", quoted(&wanted.settings.file)),
    }
}

/// As whom a client's machine comes here.
fn user() -> &'static str {
    if rustix::process::geteuid().is_root() { "root@" } else { "" }
}

/// The command that copies files from here. Each is named in full: whether braces mean anything on the
/// other side depends on scp's age.
fn copies(host: &str, directory: &Path, files: &[&str], to: &str) -> String {
    let from = |file: &&str| format!("{}{host}:{}", user(), quoted(&directory.join(file)));
    format!("scp {} {to}", files.iter().map(from).collect::<Vec<_>>().join(" "))
}
