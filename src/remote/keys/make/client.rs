//! `server --init --client=NAME`: one more client of an authority that is there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{
    CA, CA_KEY, CLIENT, CLIENT_KEY, Piece, YEARS, authority_copy, authority_of, copies, names, place,
    prepare, quoted, signed,
};

/// Where clients' directories lie, in the authority's.
const CLIENTS: &str = "clients";
/// No name of a certificate is longer (X.520).
const LONGEST_NAME: usize = 64;

/// Makes a certificate for a client of that name, in a directory of its own below the authority's. Gives
/// what the user is to read. Overwrites nothing.
///
/// # Errors
/// Why nothing was made, and what to do.
pub fn init_client(name: &str, authority: &Path) -> Result<String, String> {
    let directory = directory_of(name, authority)?;
    if !authority.join(CA_KEY).exists() {
        return Err(format!(
            "{CA_KEY}, which signs, is not in {}: name the directory where it is, with {CA} beside it: --ca=DIR",
            authority.display()
        ));
    }
    let (issuer, text) = authority_of(authority)?;
    let there = [CLIENT_KEY, CLIENT].map(|file| directory.join(file));
    if there.iter().any(|file| file.symlink_metadata().is_ok()) {
        let [key, certificate] = there.map(|file| quoted(&file));
        return Err(format!(
            "`{name}` has a certificate already, and nothing is overwritten. To make it anew: rm -f {key} {certificate}, \
             and again. What it has now stays good until it runs out"
        ));
    }
    prepare(&authority.join(CLIENTS))?;
    prepare(&directory)?;
    let broken = |why: rcgen::Error| format!("the certificate cannot be made: {why}");
    let (certificate, key) = signed(&issuer, name, &[], false).map_err(broken)?;
    let mut pieces = Vec::from_iter(authority_copy(authority, &directory, text)?);
    pieces.push(Piece::secret(CLIENT_KEY, &key));
    pieces.push(Piece::certificate(CLIENT, &certificate));
    place(&directory, &pieces)?;
    let mut told = format!("Made in {}:\n", quoted(&directory));
    let _ = write!(
        told,
        "  {CLIENT}, {CLIENT_KEY}  `{name}`, who may drive every server of this authority, for {YEARS} years\n  \
         {CA}                  by which it knows them\n\
         \nOn the machine of `{name}`:\n  mkdir -p -m 700 ~/.config/fio-spdk\n  {}\n\
         \nServers need nothing new: they know it by the authority, and show its name in their log and status.\n",
        copies(&names::host(), &directory, &[CA, CLIENT, CLIENT_KEY], "~/.config/fio-spdk/")
    );
    Ok(told)
}

fn directory_of(name: &str, authority: &Path) -> Result<PathBuf, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if !begins || !name.chars().all(plain) || name.len() > LONGEST_NAME {
        return Err(format!(
            "--client={}: with --init this is a name for the client: letters, digits, `.`, `_` and `-`, \
             {LONGEST_NAME} at most",
            crate::base::host::printable(name)
        ));
    }
    Ok(authority.join(CLIENTS).join(name))
}
