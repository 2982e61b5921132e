//! What this machine is called, by itself and by others.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use rustls::pki_types::ServerName;

use crate::remote::address::Address;

/// The machine's name for itself.
pub fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    match Address::parse(&name) {
        Ok(Address::Tcp { host, .. }) if name == host => name,
        _ => "localhost".to_owned(),
    }
}

/// Every name and address of this machine that a client may use: `more`, its name, what `/etc/hosts` calls
/// it, localhost, its addresses. What the user calls it comes first.
pub fn all(more: &[String]) -> Result<Vec<String>, String> {
    let own = host();
    let mut names = Vec::new();
    for name in more {
        match Address::parse(name) {
            Ok(Address::Tcp { host, port: crate::remote::PORT }) => names.push(host),
            Ok(_) => return Err(format!("--name={name}: expected a name or an address, without a port")),
            Err(why) => return Err(format!("--name={name}: {why}")),
        }
    }
    names.push(own.clone());
    names.extend(full_names(&fs::read_to_string("/etc/hosts").unwrap_or_default(), &own));
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    let six = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let four = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    names.extend(addresses_of_four(&four).iter().map(ToString::to_string));
    names.extend(addresses_of_six(&six).iter().map(ToString::to_string));
    let mut each: Vec<String> = Vec::new();
    for name in names {
        if !each.contains(&name) && ServerName::try_from(name.as_str()).is_ok() {
            each.push(name);
        }
    }
    Ok(each)
}

/// The longer names that a hosts file has for `own`: `dut1.lab` for `dut1`.
fn full_names(hosts: &str, own: &str) -> Vec<String> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or(""));
    let names = lines.flat_map(|line| line.split_whitespace().skip(1));
    let longer = |name: &&str| name.strip_prefix(own).is_some_and(|rest| rest.starts_with('.'));
    names.map(str::to_lowercase).filter(|name| longer(&name.as_str())).collect()
}

/// The addresses that the kernel takes for its own.
fn addresses_of_four(trie: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.contains("/32 host LOCAL")
            && let Some(address) = last.take().filter(|address| !address.is_loopback()).map(IpAddr::V4)
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// The addresses of all interfaces, but for those that hold on one link only.
fn addresses_of_six(table: &str) -> Vec<IpAddr> {
    let digits = table.lines().filter_map(|line| line.split_whitespace().next());
    let addresses = digits.filter_map(|digits| u128::from_str_radix(digits, 16).ok()).map(Ipv6Addr::from);
    addresses.filter(|a| !a.is_loopback() && !a.is_unicast_link_local()).map(IpAddr::V6).collect()
}

/// A path as a shell takes it.
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ':');
    if text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_found_by_all_that_it_is_called() {
        let hosts = "127.0.0.1 localhost\n10.0.0.5 dut1.lab dut1 # dut1.old\n10.0.0.6 dut10.lab\n";
        assert_eq!(full_names(hosts, "dut1"), ["dut1.lab"]);
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.5\n        \
                    /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\nLocal:\n     |-- 10.0.0.5\n        /32 \
                    host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n";
        assert_eq!(addresses_of_four(trie), ["10.0.0.5".parse::<IpAddr>().unwrap()]);
        let table = "fe80000000000000000000000000abcd 02 40 20 80 eth0\n\
                     fd000000000000000000000000000005 02 40 00 80 eth0\n\
                     00000000000000000000000000000001 01 80 10 80 lo\n";
        assert_eq!(addresses_of_six(table), ["fd00::5".parse::<IpAddr>().unwrap()]);
        let names = all(&["dut2.lab".to_owned(), "10.9.8.7".to_owned(), "fd00::9".to_owned()]).unwrap();
        assert_eq!(names[0], "dut2.lab", "what the user calls it comes first");
        for name in ["dut2.lab", "10.9.8.7", "fd00::9", "localhost", "127.0.0.1", "::1"] {
            assert_eq!(names.iter().filter(|one| *one == name).count(), 1, "{name}: {names:?}");
        }
        for wrong in ["dut2:9000", "[::1]:9000", "unix:/x", "a b", "*"] {
            let why = all(&[wrong.to_owned()]).unwrap_err();
            assert!(why.contains(&format!("--name={wrong}")), "{why}");
        }
    }

    #[test]
    fn a_shell_takes_any_path() {
        assert_eq!(quoted(Path::new("/etc/fio-spdk")), "/etc/fio-spdk");
        assert_eq!(quoted(Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }
}
