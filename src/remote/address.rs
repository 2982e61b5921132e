//! Where a server listens, and a client goes to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::PORT;
use crate::base::host::printable;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `dut1`, `dut1:8765`, `10.0.0.5`, `[::1]:8765`.
    Tcp {
        /// A name in small letters, or an address; that of IPv6 without brackets.
        host: String,
        /// [`super::PORT`] unless told. 0, for a server: any that is free.
        port: u16,
    },
    /// `unix:/run/fio-spdk.sock`.
    Unix(PathBuf),
}

/// What stands before the path of a socket.
const UNIX: &str = "unix:";
/// The kernel takes no longer path of a socket, in bytes.
const LONGEST_PATH: usize = 107;
/// No host has a longer name.
const LONGEST_NAME: usize = 253;
/// Longer names of files are cut, in bytes: more stands around them.
const LONGEST_FILE_NAME: usize = 120;

impl Address {
    /// Reads an address as people write it.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it, and what would be right.
    pub fn parse(text: &str) -> Result<Address, String> {
        let shown = printable(&text.chars().take(LONGEST_NAME).collect::<String>());
        let wrong = |why: &str| Err(format!("`{shown}` is no address of a server: {why}"));
        if text.is_empty() {
            return wrong("expected dut1, dut1:8765, 10.0.0.5, [::1]:8765 or unix:/path");
        }
        if let Some(path) = text.strip_prefix(UNIX) {
            return match path {
                "" => wrong("the path of a socket follows behind unix:"),
                _ if path.contains('\0') => wrong("a path cannot hold a zero byte"),
                _ if path.ends_with('/') => wrong("this is the path of a directory"),
                _ if path.len() > LONGEST_PATH => wrong("the path of a socket has 107 bytes at most"),
                _ => Ok(Address::Unix(PathBuf::from(path))),
            };
        }
        if text.contains('/') {
            return match text.starts_with('/') {
                true => wrong(&format!("if this is the path of a socket, write unix:{shown}")),
                false => wrong("expected a host and perhaps a port, such as dut1:8765"),
            };
        }
        let (host, port) = match parts(text) {
            Ok(parts) => parts,
            Err(why) => return wrong(why),
        };
        let port = match port.map(|port| (port.parse::<u16>(), port)) {
            None => PORT,
            Some((Ok(port), text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => port,
            Some(_) => return wrong("a port is a number up to 65535"),
        };
        match host_name(host) {
            Ok(host) => Ok(Address::Tcp { host, port }),
            Err(why) => wrong(&why),
        }
    }

    /// The host; a socket is on this machine.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Address::Tcp { host, .. } => host,
            Address::Unix(_) => "localhost",
        }
    }

    /// The address as part of a file's name: `dut1`, `dut2_8766` if the port is not the usual one,
    /// `unix_run_fio.sock`. No two addresses share one; it has 120 bytes at most, no `/` and no `:`.
    #[must_use]
    pub fn file_name(&self) -> String {
        let name = match self {
            Address::Tcp { host, port } => {
                // What would be read as a port, or as a socket, is none.
                let misread = host.starts_with("unix_")
                    || host.rsplit_once('_').is_some_and(|(_, end)| end.bytes().all(|b| b.is_ascii_digit()));
                let host = escaped(host, misread);
                if *port == PORT { host } else { format!("{host}_{port}") }
            }
            Address::Unix(path) => {
                let path = path.to_string_lossy();
                let parts: Vec<String> = path.split('/').map(|part| escaped(part, true)).collect();
                // A relative path is another one than that from the root.
                let mark = if path.starts_with('/') { "unix" } else { "unix_._" };
                format!("{mark}{}", parts.join("_"))
            }
        };
        if name.len() <= LONGEST_FILE_NAME {
            return name;
        }
        let digest = Sha256::digest(name.as_bytes());
        let tail: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        // All of it is ASCII.
        format!("{}%{tail}", &name[..LONGEST_FILE_NAME - 1 - tail.len()])
    }

    /// The address of the host, if it is written as one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        let host = self.host();
        host.split_once('%').map_or(host, |(address, _)| address).parse().ok()
    }

    /// The path of the socket, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Address::Tcp { .. } => None,
            Address::Unix(path) => Some(path),
        }
    }
}

/// Parts the host from the port.
fn parts(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((host, rest)) = rest.split_once(']') else { return Err("the bracket is never closed") };
        if six(host).is_none() {
            return Err("between brackets stands an address of IPv6, such as [::1]");
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("behind the bracket a port can follow, such as [::1]:8765"),
        };
    }
    if six(text).is_some() {
        return Ok((text, None));
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            Err("too many colons; an address of IPv6 with a port is written so: [fe80::1]:8765")
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

/// An address of IPv6 as it is always written; with its zone, if it has one.
fn six(text: &str) -> Option<String> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let Some(zone) = zone else { return Some(address.to_string()) };
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (!zone.is_empty() && zone.len() < 16 && zone.chars().all(fine)).then(|| format!("{address}%{zone}"))
}

fn host_name(text: &str) -> Result<String, String> {
    if let Some(address) = six(text) {
        return Ok(address);
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(address.to_string());
    }
    if text.is_empty() {
        return Err("the host is missing".to_owned());
    }
    if text.len() > LONGEST_NAME {
        return Err(format!("the name of a host has {LONGEST_NAME} characters at most"));
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(odd) = text.chars().find(|&c| !fine(c)) {
        let odd = printable(&odd.to_string());
        return Err(format!("the name of a host has letters, digits, `-`, `_` and dots, not `{odd}`"));
    }
    let labels = || text.strip_suffix('.').unwrap_or(text).split('.');
    if labels().any(|label| label.is_empty() || label.len() > 63 || label.starts_with('-')) {
        return Err("between dots stand 1 to 63 characters that do not begin with `-`".to_owned());
    }
    if labels().next_back().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err("an address has four numbers up to 255, such as 10.0.0.5".to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

/// Text with everything but letters, digits, `.` and `-` as `%` and two digits; `_` too, if asked.
fn escaped(text: &str, with_underscore: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'_' if !with_underscore => out.push('_'),
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Address::Tcp { host, port } => {
                match host.contains(':') {
                    true => write!(f, "[{host}]")?,
                    false => f.write_str(host)?,
                }
                if *port == PORT { Ok(()) } else { write!(f, ":{port}") }
            }
        }
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        Address::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn every_form_that_people_write_is_read() {
        for (text, address, shown) in [
            ("dut1", tcp("dut1", PORT), "dut1"),
            ("DUT1.Lab:8765", tcp("dut1.lab", PORT), "dut1.lab"),
            ("dut2:9000", tcp("dut2", 9000), "dut2:9000"),
            ("dut2:0", tcp("dut2", 0), "dut2:0"),
            ("10.0.0.5", tcp("10.0.0.5", PORT), "10.0.0.5"),
            ("[::1]:9000", tcp("::1", 9000), "[::1]:9000"),
            ("[0:0::1]", tcp("::1", PORT), "[::1]"),
            ("fe80::1%eth0", tcp("fe80::1%eth0", PORT), "[fe80::1%eth0]"),
            ("unix:/run/fio.sock", Address::Unix("/run/fio.sock".into()), "unix:/run/fio.sock"),
        ] {
            assert_eq!(Address::parse(text).as_ref(), Ok(&address), "{text}");
            assert_eq!(address.to_string(), shown);
        }
        assert_eq!(tcp("::1", 1).ip(), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(tcp("dut1", 1).ip(), None);
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_would_be_right() {
        for (text, why) in [
            ("", "expected dut1"),
            (":8765", "the host is missing"),
            ("dut1:", "up to 65535"),
            ("dut1:65536", "up to 65535"),
            ("dut1:+80", "up to 65535"),
            ("[::1", "never closed"),
            ("[dut1]:80", "IPv6"),
            ("[::1]80", "[::1]:8765"),
            ("fe80::1:zz:8765", "[fe80::1]:8765"),
            ("256.1.1.1", "10.0.0.5"),
            ("10.0.0", "10.0.0.5"),
            ("du t1", "not ` `"),
            ("dut1..lab", "between dots"),
            ("-dut1", "begin with `-`"),
            ("/run/fio.sock", "write unix:/run/fio.sock"),
            ("https://dut1", "such as dut1:8765"),
            ("unix:", "the path of a socket"),
            ("unix:/run/", "directory"),
            ("dut\u{1b}[2J", "not `\\u001b`"),
        ] {
            let told = Address::parse(text).unwrap_err();
            assert!(told.contains(why) && !told.contains('\u{1b}'), "{text:?}: {told}");
        }
        assert!(Address::parse(&format!("unix:/{}", "x".repeat(107))).is_err());
        assert!(Address::parse(&"x.".repeat(130)).is_err());
    }

    #[test]
    fn file_names_tell_addresses_apart() {
        for (text, name) in [
            ("dut1", "dut1"),
            ("dut2:9000", "dut2_9000"),
            ("dut_a", "dut_a"),
            ("dut2_9000", "dut2%5f9000"),
            ("[::1]", "%3a%3a1"),
            ("unix:/run/fio.sock", "unix_run_fio.sock"),
            ("unix:/run_fio.sock", "unix_run%5ffio.sock"),
            ("unix:run/fio.sock", "unix_._run_fio.sock"),
            ("unix_run_fio.sock", "unix%5frun%5ffio.sock"),
        ] {
            assert_eq!(Address::parse(text).unwrap().file_name(), name);
        }
    }

    fn addresses() -> impl Strategy<Value = Address> {
        prop_oneof![
            ("(unix_)?[a-z_][a-z0-9_-]{0,8}(\\.[a-z][a-z0-9_]{0,70}){0,3}", any::<u16>())
                .prop_filter_map("no host", |(host, port)| Address::parse(&format!("{host}:{port}")).ok()),
            (any::<[u16; 8]>(), 0_u16..3)
                .prop_map(|(words, port)| tcp(&Ipv6Addr::from(words).to_string(), PORT + port)),
            (any::<[u8; 4]>(), 0_u16..3)
                .prop_map(|(bytes, port)| tcp(&Ipv4Addr::from(bytes).to_string(), PORT + port)),
            "/?[a-z_./%ü-]{0,50}[a-z_]".prop_map(|path| Address::Unix(path.into())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(address in addresses()) {
            prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }

        #[test]
        fn a_file_name_is_one_and_belongs_to_one_address(many in prop::collection::vec(addresses(), 1..40)) {
            let mut seen: HashMap<String, Address> = HashMap::new();
            for address in many {
                let name = address.file_name();
                prop_assert!(!name.is_empty() && name.len() <= LONGEST_FILE_NAME);
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-%".contains(&b)));
                prop_assert!(!name.starts_with('.'));
                let first = seen.entry(name).or_insert_with(|| address.clone());
                prop_assert_eq!(&*first, &address);
            }
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,30}|[a-z0-9:.%\\[\\]/]{0,30}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
            }
        }
    }
}
