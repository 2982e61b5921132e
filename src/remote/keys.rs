//! Certificates and their keys: made ([`init`]), found, loaded.
//!
//! A server shows `server.pem`, a client `client.pem`, and each believes what `ca.pem` has signed. TLS is
//! 1.3, both sides show who they are, and nothing verifies less than rustls does.

mod make;
mod names;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::settings::{SYSTEM_DIRECTORY, config_directory};
use crate::base::host::printable;

pub use make::{Wanted, init};

/// Who signs.
pub const CA: &str = "ca.pem";
/// What it signs with; no server and no client needs it.
pub const CA_KEY: &str = "ca.key";
/// What a server shows.
pub const SERVER: &str = "server.pem";
/// That it is the server's.
pub const SERVER_KEY: &str = "server.key";
/// What a client shows.
pub const CLIENT: &str = "client.pem";
/// That it is the client's.
pub const CLIENT_KEY: &str = "client.key";

/// A larger file is something else.
const MOST_BYTES: u64 = 1 << 20;
/// Longer names of certificates are cut, in characters.
const LONGEST_NAME: usize = 64;
/// What is spoken over TLS.
const HTTP_2: &[u8] = b"h2";

/// What a server accepts connections with: the files of `directory`.
///
/// # Errors
/// Which file is missing, wrong or open to others, and what to do.
pub fn server_config(directory: &Path) -> Result<ServerConfig, String> {
    let identity = Identity::load(directory, SERVER, SERVER_KEY, || {
        format!("`{}` makes them", init_command(directory))
    })?;
    let roots = Arc::new(identity.roots);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|why| format!("{}: {why}", directory.join(CA).display()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|why| format!("TLS 1.3: {why}"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain, identity.key)
        .map_err(|why| mismatch(directory, SERVER, SERVER_KEY, &why))?;
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    // Every connection shows its certificate anew.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What a client connects with: the files of `directory`, see [`find`].
///
/// # Errors
/// Which file is missing, wrong or open to others, and what to do.
pub fn client_config(directory: &Path) -> Result<ClientConfig, String> {
    let identity = Identity::load(directory, CLIENT, CLIENT_KEY, || HOW_TO_GET.to_owned())?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|why| format!("TLS 1.3: {why}"))?
        .with_root_certificates(identity.roots)
        .with_client_auth_cert(identity.chain, identity.key)
        .map_err(|why| mismatch(directory, CLIENT, CLIENT_KEY, &why))?;
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

const HOW_TO_GET: &str = "`fio-spdk server --init` on the server makes them and says how to copy them here";

fn init_command(directory: &Path) -> String {
    match directory == config_directory() {
        true => "fio-spdk server --init".to_owned(),
        false => {
            format!("fio-spdk server --init --config={}", directory.join(super::settings::FILE).display())
        }
    }
}

fn mismatch(directory: &Path, certificate: &str, key: &str, why: &rustls::Error) -> String {
    let directory = directory.display();
    format!("{directory}/{certificate} and {directory}/{key} do not serve together: {why}")
}

/// Where a client's certificate for that host is: `told`, or the directory of configuration, or
/// `/etc/fio-spdk`; in each of them, in a directory of the host's name if there is one.
///
/// # Errors
/// Where the files should be, and how to get them.
pub fn find(host: &str, told: Option<&Path>) -> Result<PathBuf, String> {
    let places = match told {
        Some(told) => vec![told.to_owned()],
        None => {
            let mut places = vec![config_directory(), PathBuf::from(SYSTEM_DIRECTORY)];
            places.dedup();
            places
        }
    };
    for place in &places {
        let own = place.join(host);
        if own.is_dir() {
            return Ok(own);
        }
        if place.join(CLIENT).exists() {
            return Ok(place.clone());
        }
    }
    let at: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    let at = at.join(" nor in ");
    let not = if places.len() > 1 { "neither in" } else { "not in" };
    Err(format!(
        "no certificate to show to {host}: {CA}, {CLIENT} and {CLIENT_KEY} are {not} {at}; {HOW_TO_GET}"
    ))
}

/// A side's certificate and key, and whom it believes.
struct Identity {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn load(
        directory: &Path,
        certificate: &str,
        key: &str,
        how: impl Fn() -> String,
    ) -> Result<Identity, String> {
        let missing: Vec<&str> = [CA, certificate, key]
            .into_iter()
            .filter(|name| {
                let seen = directory.join(name).metadata();
                seen.is_err_and(|why| why.kind() == ErrorKind::NotFound)
            })
            .collect();
        if !missing.is_empty() {
            let plural = if missing.len() == 1 { "is" } else { "are" };
            let (names, place) = (missing.join(" and "), directory.display());
            return Err(format!("{names} {plural} not in {place}: {}", how()));
        }
        let mut roots = RootCertStore::empty();
        for one in certificates(&directory.join(CA))? {
            roots.add(one).map_err(|why| format!("{}: {why}", directory.join(CA).display()))?;
        }
        let chain = certificates(&directory.join(certificate))?;
        check_dates(&chain[0], &directory.join(certificate))?;
        Ok(Identity { roots, chain, key: private_key(&directory.join(key))? })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates of a file: one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let (bytes, mode) = read(path)?;
    if mode & 0o002 != 0 {
        let path = names::quoted(path);
        return Err(format!("anybody may write to {path}, and it says who is believed: chmod o-w {path}"));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{}: no certificate stands in it", path.display())),
        Err(why) => Err(format!("{}: not well-formed: {why}", path.display())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let (bytes, mode) = read(path)?;
    if mode & 0o077 != 0 {
        let path = names::quoted(path);
        return Err(format!(
            "{path} can be read by others (mode {:03o}): a key that others know is worth nothing; if nobody has \
             read it: chmod 600 {path}",
            mode & 0o777
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|why| format!("{}: no key: {why}", path.display()))
}

/// A file, and its mode.
fn read(path: &Path) -> Result<(Vec<u8>, u32), String> {
    let told = |why: std::io::Error| format!("{}: {why}", path.display());
    let file = File::open(path).map_err(told)?;
    let metadata = file.metadata().map_err(told)?;
    if !metadata.is_file() || metadata.len() > MOST_BYTES {
        return Err(format!("{}: not a file of at most 1 MiB", path.display()));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(told)?;
    Ok((bytes, metadata.mode()))
}

/// What has run out is told here, not by the other side.
fn check_dates(certificate: &CertificateDer<'_>, path: &Path) -> Result<(), String> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| format!("{}: the certificate is not well-formed", path.display()))?;
    let validity = parsed.validity();
    if validity.is_valid() {
        return Ok(());
    }
    Err(format!(
        "{}: the certificate is valid from {} to {}, and not now: make it anew, or set this machine's clock",
        path.display(),
        validity.not_before,
        validity.not_after
    ))
}

/// What a certificate is called, fit to be shown.
#[must_use]
pub fn name_of(certificate: &CertificateDer<'_>) -> String {
    let parsed = X509Certificate::from_der(certificate);
    let name = parsed.ok().and_then(|(_, certificate)| {
        let names: Vec<_> = certificate.subject().iter_common_name().collect();
        names.first().and_then(|name| name.as_str().ok()).map(str::to_owned)
    });
    let name = name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| "without a name".to_owned());
    printable(&name.chars().take(LONGEST_NAME).collect::<String>())
}

#[cfg(test)]
mod tests;
