//! Where SPDK finds a namespace: the transport id of its controller, as `spdk_nvme_transport_id_parse`
//! reads it (SPDK, lib/nvme/nvme.c), with the number of the namespace as fio's plugin has it.

use std::fmt;
use std::net::IpAddr;

/// SPDK_NVMF_TRADDR_MAX_LEN.
const MOST_ADDRESS: usize = 256;
/// SPDK_NVMF_NQN_MAX_LEN (NVMe Base 2.0, 4.5).
const MOST_NQN: usize = 223;
/// The subsystem that knows of the others, and has no namespace itself.
const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
/// What TCP and RDMA listen on where nothing is said (NVMe over Fabrics; IANA).
const FABRICS_PORT: &str = "4420";
/// All ones stands for all namespaces (NVMe Base 2.0, 3.2.1).
const MOST_NAMESPACE: u32 = u32::MAX - 1;

const KEYS: [&str; 9] =
    ["trtype", "adrfam", "traddr", "trsvcid", "subnqn", "hostaddr", "hostsvcid", "priority", "ns"];

const EXAMPLE: &str = "for example `trtype=PCIe traddr=0000:5e:00.0 ns=1`";

/// How a controller is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The PCI bus.
    Pcie,
    /// NVMe/TCP.
    Tcp,
    /// NVMe/RDMA.
    Rdma,
    /// A controller that another process emulates, over a socket.
    VfioUser,
}

impl Transport {
    /// All of them, with SPDK's names.
    pub const ALL: [(&'static str, Transport); 4] = [
        ("PCIe", Transport::Pcie),
        ("TCP", Transport::Tcp),
        ("RDMA", Transport::Rdma),
        ("VFIOUSER", Transport::VfioUser),
    ];

    /// SPDK's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Transport::Pcie => "PCIe",
            Transport::Tcp => "TCP",
            Transport::Rdma => "RDMA",
            Transport::VfioUser => "VFIOUSER",
        }
    }

    /// Whether there is a network between host and controller.
    #[must_use]
    pub fn is_fabric(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Rdma)
    }
}

/// What kind of address a fabric has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// InfiniBand.
    Ib,
}

impl AddressFamily {
    const ALL: [(&'static str, AddressFamily); 3] =
        [("IPv4", AddressFamily::Ipv4), ("IPv6", AddressFamily::Ipv6), ("IB", AddressFamily::Ib)];

    /// SPDK's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AddressFamily::Ipv4 => "IPv4",
            AddressFamily::Ipv6 => "IPv6",
            AddressFamily::Ib => "IB",
        }
    }
}

/// A namespace, and the way to it. [`fmt::Display`] gives the one spelling that reports and snapshots
/// know it by; it parses to the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportId {
    /// `trtype`.
    pub trtype: Transport,
    /// `adrfam`: of fabrics.
    pub adrfam: Option<AddressFamily>,
    /// `traddr`: of PCIe `dddd:bb:dd.f` in lower case, of VFIOUSER a directory, else a host.
    pub traddr: String,
    /// `trsvcid`: the port; empty where there is none.
    pub trsvcid: String,
    /// `subnqn`: the subsystem; empty where there is none.
    pub subnqn: String,
    /// `hostaddr`: the address to connect from; empty for any.
    pub hostaddr: String,
    /// `hostsvcid`: the port to connect from; empty for any.
    pub hostsvcid: String,
    /// `priority` of the connection's socket (TCP).
    pub priority: u16,
    /// `ns`: the namespace's number.
    pub ns: u32,
}

impl TransportId {
    /// Reads SPDK's form, or the address of a PCIe controller alone (then `ns` is 1).
    ///
    /// # Errors
    /// What is wrong with it, and the nearest right thing.
    pub fn parse(text: &str) -> Result<TransportId, String> {
        let mut words = text.split_whitespace().peekable();
        let mut fields = Fields::default();
        if let Some(address) = words.peek().and_then(|word| pci_address(word)) {
            words.next();
            fields.set("trtype", Transport::Pcie.name())?;
            fields.set("traddr", &address)?;
        }
        for word in words {
            let Some((key, value)) = word.split_once(['=', ':']) else {
                return Err(format!(
                    "`{}` is neither a key with its value nor a PCI address: {EXAMPLE}",
                    shown(word)
                ));
            };
            fields.set(key, value)?;
        }
        fields.finish()
    }

    /// The controller without the namespace, as SPDK's own parser takes it.
    #[must_use]
    pub fn controller(&self) -> String {
        let mut text = format!("trtype={}", self.trtype.name());
        let mut add = |key: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!(" {key}={value}"));
            }
        };
        add("adrfam", self.adrfam.map_or("", AddressFamily::name));
        add("traddr", &self.traddr);
        add("trsvcid", &self.trsvcid);
        add("subnqn", &self.subnqn);
        add("hostaddr", &self.hostaddr);
        add("hostsvcid", &self.hostsvcid);
        if self.priority > 0 {
            add("priority", &self.priority.to_string());
        }
        text
    }
}

impl fmt::Display for TransportId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ns={}", self.controller(), self.ns)
    }
}

/// The values of [`KEYS`] as they were written.
#[derive(Default)]
struct Fields([Option<String>; KEYS.len()]);

impl Fields {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let lower = key.to_ascii_lowercase();
        let Some(at) = KEYS.iter().position(|known| *known == lower) else { return Err(unknown(&lower)) };
        if value.is_empty() {
            return Err(format!("`{lower}` has no value (there are no spaces around `=`)"));
        }
        if value.contains(char::is_control) {
            return Err(format!("`{lower}` holds a control character"));
        }
        if self.0[at].is_some() {
            return Err(format!("`{lower}` is there twice"));
        }
        let most = match lower.as_str() {
            "traddr" | "hostaddr" => MOST_ADDRESS,
            "subnqn" => MOST_NQN,
            _ => 32,
        };
        if value.len() > most {
            return Err(format!("`{lower}` has {} bytes, and {most} are the most", value.len()));
        }
        self.0[at] = Some(value.to_owned());
        Ok(())
    }

    fn get(&self, key: &str) -> Option<&str> {
        let at = KEYS.iter().position(|known| *known == key)?;
        self.0[at].as_deref()
    }

    fn owned(&self, key: &str) -> String {
        self.get(key).unwrap_or_default().to_owned()
    }

    fn finish(self) -> Result<TransportId, String> {
        let Some(name) = self.get("trtype") else { return Err(format!("there is no `trtype`: {EXAMPLE}")) };
        let trtype = transport(name)?;
        self.refuse_foreign(trtype)?;
        let Some(address) = self.get("traddr") else {
            return Err(format!("there is no `traddr`: {EXAMPLE}"));
        };
        let mut id = TransportId {
            trtype,
            adrfam: None,
            traddr: address.to_owned(),
            trsvcid: String::new(),
            subnqn: self.owned("subnqn"),
            hostaddr: self.owned("hostaddr"),
            hostsvcid: String::new(),
            priority: number(self.get("priority"), "priority", 0, 0, 9999)?,
            ns: number(self.get("ns"), "ns", 1, 1, MOST_NAMESPACE)?,
        };
        if !id.subnqn.is_empty() {
            check_nqn(&id.subnqn).map_err(|why| format!("`subnqn`: {why}"))?;
        }
        match trtype {
            Transport::Pcie => {
                id.traddr = pci_address(address)
                    .ok_or_else(|| format!("`{}` is no PCI address: {EXAMPLE}", shown(address)))?;
            }
            Transport::Tcp | Transport::Rdma => self.fabric(&mut id)?,
            Transport::VfioUser => {}
        }
        Ok(id)
    }

    /// Keys that this transport has no use for.
    fn refuse_foreign(&self, trtype: Transport) -> Result<(), String> {
        let foreign: &[&str] = match trtype {
            Transport::Pcie => &["adrfam", "trsvcid", "subnqn", "hostaddr", "hostsvcid", "priority"],
            Transport::VfioUser => &["adrfam", "trsvcid", "hostaddr", "hostsvcid", "priority"],
            Transport::Rdma => &["priority"],
            Transport::Tcp => &[],
        };
        match foreign.iter().find(|key| self.get(key).is_some()) {
            Some(key) => Err(format!("`{key}` means nothing to {}: leave it out", trtype.name())),
            None => Ok(()),
        }
    }

    fn fabric(&self, id: &mut TransportId) -> Result<(), String> {
        let name = id.trtype.name();
        let family = match self.get("adrfam") {
            Some(word) => family(word)?,
            None if id.traddr.contains(':') => AddressFamily::Ipv6,
            None => AddressFamily::Ipv4,
        };
        if family == AddressFamily::Ib && id.trtype == Transport::Tcp {
            return Err("`adrfam=IB` is for RDMA: TCP has IPv4 and IPv6".to_owned());
        }
        for address in [&id.traddr, &id.hostaddr] {
            if address.contains(['[', ']']) {
                return Err(format!("`{}`: leave the brackets out", shown(address)));
            }
            let fits = match address.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => family == AddressFamily::Ipv4,
                Ok(IpAddr::V6(_)) => family != AddressFamily::Ipv4,
                Err(_) => !address.contains(':') || family != AddressFamily::Ipv4,
            };
            if !address.is_empty() && !fits {
                return Err(format!("`{}` is no address of {}", shown(address), family.name()));
            }
        }
        id.adrfam = Some(family);
        id.trsvcid = port(self.get("trsvcid").unwrap_or(FABRICS_PORT), "trsvcid")?;
        if let Some(text) = self.get("hostsvcid") {
            id.hostsvcid = port(text, "hostsvcid")?;
        }
        match id.subnqn.as_str() {
            "" => Err(format!(
                "{name} needs `subnqn`, the name of the subsystem, for example subnqn=nqn.2016-06.io.spdk:cnode1"
            )),
            DISCOVERY_NQN => Err("this `subnqn` is that of discovery, which has no namespaces".to_owned()),
            _ => Ok(()),
        }
    }
}

fn unknown(key: &str) -> String {
    match key {
        "hostnqn" => return "`hostnqn` is an option of the job, beside `filename`".to_owned(),
        "alt_traddr" => return "a second path (`alt_traddr`) is not supported".to_owned(),
        _ => {}
    }
    let message = format!("unknown key `{}` in a transport id", shown(key));
    match nearest(key, KEYS.into_iter()) {
        Some(near) => format!("{message}: did you mean `{near}`?"),
        None => format!("{message}: there are {}", KEYS.join(", ")),
    }
}

fn transport(word: &str) -> Result<Transport, String> {
    let mut all = Transport::ALL.into_iter();
    if let Some((_, found)) = all.find(|(name, _)| name.eq_ignore_ascii_case(word)) {
        return Ok(found);
    }
    if word.eq_ignore_ascii_case("FC") {
        return Err("SPDK reaches no controller over Fibre Channel (`trtype=FC`)".to_owned());
    }
    let names = Transport::ALL.map(|(name, _)| name);
    let message = format!("`{}` is no transport", shown(word));
    Err(match nearest(word, names.into_iter()) {
        Some(near) => format!("{message}: did you mean `{near}`?"),
        None => format!("{message}: there are {}", names.join(", ")),
    })
}

fn family(word: &str) -> Result<AddressFamily, String> {
    let mut all = AddressFamily::ALL.into_iter();
    let found = all.find(|(name, _)| name.eq_ignore_ascii_case(word));
    found
        .map(|(_, family)| family)
        .ok_or_else(|| format!("`{}` is no address family: there are IPv4, IPv6 and IB", shown(word)))
}

fn port(text: &str, key: &str) -> Result<String, String> {
    number(Some(text), key, 0_u16, 1, u16::MAX).map(|port| port.to_string())
}

/// Decimal digits, within bounds.
fn number<T>(text: Option<&str>, key: &str, default: T, min: T, max: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + fmt::Display + Copy,
{
    let Some(text) = text else { return Ok(default) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<T>().ok().filter(|number| digits && (min..=max).contains(number));
    number.ok_or_else(|| format!("`{key}` is a number from {min} to {max}, not `{}`", shown(text)))
}

/// Checks an NVMe qualified name (NVMe Base 2.0, 4.5).
///
/// # Errors
/// Why it is none.
pub fn check_nqn(name: &str) -> Result<(), String> {
    if name.len() > MOST_NQN {
        return Err(format!("a qualified name has at most {MOST_NQN} bytes, and this one {}", name.len()));
    }
    let plain = name.chars().all(|c| !c.is_control() && !c.is_whitespace());
    if !plain || !name.starts_with("nqn.") || name.len() < 11 {
        let why = "is no qualified name: one looks like nqn.2014-08.org.example:disk";
        return Err(format!("`{}` {why}", shown(name)));
    }
    Ok(())
}

/// The address of a PCI function as Linux writes it: `dddd:bb:dd.f`. The domain may be left out, and
/// all separators may be dots, as in fio's job files.
#[must_use]
pub fn pci_address(text: &str) -> Option<String> {
    let (rest, function) = text.rsplit_once('.')?;
    let separator = if rest.contains(':') { ':' } else { '.' };
    let parts: Vec<&str> = rest.split(separator).collect();
    let (domain, bus, device) = match parts[..] {
        [domain, bus, device] => (domain, bus, device),
        [bus, device] => ("0", bus, device),
        _ => return None,
    };
    let hex = |text: &str, most: u32| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = if digits { u32::from_str_radix(text, 16).ok()? } else { return None };
        (number <= most).then_some(number)
    };
    let (domain, bus) = (hex(domain, u32::MAX)?, hex(bus, 0xff)?);
    let (device, function) = (hex(device, 0x1f)?, hex(function, 7)?);
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function}"))
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing takes time with the square of the length; no name is that long.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    known
        .map(|name| (strsim::osa_distance(&word, &name.to_ascii_lowercase()), name))
        .filter(|&(distance, name)| distance <= (name.len() / 3).max(1))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// As much of a text as a message can bear.
fn shown(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NQN: &str = "nqn.2016-06.io.spdk:cnode1";

    #[test]
    fn every_spelling_of_a_pcie_namespace_is_one() {
        let canonical = "trtype=PCIe traddr=0000:5e:00.0 ns=1";
        for text in [
            canonical,
            "trtype:PCIe traddr:0000:5e:00.0",
            "  TRTYPE=pcie\tTraddr=0000:5E:00.0\nns:1 ",
            "ns=1 traddr=0000.5e.00.0 trtype=PCIE",
            "trtype=PCIe traddr=5e:00.0",
            "0000:5e:00.0",
            "5e:00.0",
            "5E:0.0",
            "5e.00.0",
            "0000.5e.00.0 ns=01",
        ] {
            assert_eq!(TransportId::parse(text).map(|id| id.to_string()), Ok(canonical.to_owned()), "{text}");
        }
        let far = TransportId::parse("trtype=PCIe traddr=10000:01:1f.7 ns=4294967294").unwrap();
        assert_eq!((far.traddr.as_str(), far.ns), ("10000:01:1f.7", 4_294_967_294));
        assert_eq!(far.controller(), "trtype=PCIe traddr=10000:01:1f.7");
    }

    #[test]
    fn fabrics_get_their_family_and_port() {
        for (text, canonical) in [
            (
                "trtype=tcp traddr=10.0.0.1 subnqn=nqn.2016-06.io.spdk:cnode1",
                "trtype=TCP adrfam=IPv4 traddr=10.0.0.1 trsvcid=4420 subnqn=nqn.2016-06.io.spdk:cnode1 ns=1",
            ),
            (
                "trtype:RDMA traddr:fe80::1 trsvcid:04421 subnqn:nqn.2016-06.io.spdk:cnode1 ns:2",
                "trtype=RDMA adrfam=IPv6 traddr=fe80::1 trsvcid=4421 subnqn=nqn.2016-06.io.spdk:cnode1 ns=2",
            ),
            (
                "trtype=TCP traddr=host.example subnqn=nqn.2016-06.io.spdk:cnode1 hostaddr=10.0.0.9 hostsvcid=99 priority=6",
                "trtype=TCP adrfam=IPv4 traddr=host.example trsvcid=4420 subnqn=nqn.2016-06.io.spdk:cnode1 \
                 hostaddr=10.0.0.9 hostsvcid=99 priority=6 ns=1",
            ),
            ("trtype=vfiouser traddr=/var/run/vm:1 ns=1", "trtype=VFIOUSER traddr=/var/run/vm:1 ns=1"),
        ] {
            let id = TransportId::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(id.to_string(), canonical);
            assert_eq!(TransportId::parse(canonical), Ok(id));
        }
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let tcp = |rest: &str| format!("trtype=TCP traddr=10.0.0.1 {rest}");
        let with_nqn = |rest: &str| tcp(&format!("subnqn={NQN} {rest}"));
        for (text, word) in [
            (String::new(), "no `trtype`"),
            ("/dev/nvme0n1".to_owned(), "neither a key"),
            ("traddr=0000:5e:00.0".to_owned(), "no `trtype`"),
            ("trtype=PCIe".to_owned(), "no `traddr`"),
            ("trtype=PCIe traddr=".to_owned(), "no value"),
            ("trtype=PCIe tradr=0000:5e:00.0".to_owned(), "did you mean `traddr`"),
            ("trtype=PCIE3 traddr=0000:5e:00.0".to_owned(), "did you mean `PCIe`"),
            ("trtype=FC traddr=x".to_owned(), "Fibre Channel"),
            ("trtype=PCIe traddr=0000:5e:20.0".to_owned(), "no PCI address"),
            ("trtype=PCIe traddr=0000:5e:00.8".to_owned(), "no PCI address"),
            ("trtype=PCIe traddr=0000:5e:00".to_owned(), "no PCI address"),
            ("trtype=PCIe traddr=0x0:+5e:00.0".to_owned(), "no PCI address"),
            ("trtype=PCIe traddr=0000:5e:00.0 ns=0".to_owned(), "from 1 to"),
            ("trtype=PCIe traddr=0000:5e:00.0 ns=+1".to_owned(), "from 1 to"),
            ("trtype=PCIe traddr=0000:5e:00.0 ns=4294967295".to_owned(), "from 1 to"),
            ("trtype=PCIe traddr=0000:5e:00.0 traddr=5e:00.0".to_owned(), "twice"),
            ("5e:00.0 trtype=PCIe".to_owned(), "twice"),
            ("trtype=PCIe traddr=5e:00.0 trsvcid=4420".to_owned(), "means nothing to PCIe"),
            ("trtype=PCIe traddr=5e:00.0 hostnqn=nqn.x".to_owned(), "option of the job"),
            (tcp(""), "needs `subnqn`"),
            (tcp(&format!("subnqn={DISCOVERY_NQN}")), "discovery"),
            (tcp("subnqn=cnode1"), "no qualified name"),
            (tcp(&format!("subnqn=nqn.{}", "x".repeat(220))), "223 are the most"),
            (with_nqn("trsvcid=65536"), "from 1 to 65535"),
            (with_nqn("adrfam=IPv6"), "no address of IPv6"),
            (with_nqn("adrfam=IPX"), "no address family"),
            (with_nqn("adrfam=IB"), "for RDMA"),
            (with_nqn("trsvcid=123456789012345678901234567890123"), "32 are the most"),
            (format!("trtype=VFIOUSER traddr=/{}", "x".repeat(256)), "256 are the most"),
            (format!("trtype=TCP traddr=[::1] subnqn={NQN}"), "brackets"),
        ] {
            let why = TransportId::parse(&text).expect_err(&text);
            assert!(why.contains(word), "{text}: {why}");
        }
    }

    /// Texts of the kind that people mistype.
    fn nearly() -> impl Strategy<Value = String> {
        let key = prop_oneof![prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned), "[a-zA-Z]{0,8}"];
        let value = prop_oneof![
            "[0-9a-fA-F]{1,4}[:.][0-9a-f]{1,2}[:.][0-9a-f]{1,2}[.:][0-7]",
            "PCIe|tcp|RDMA|vfiouser|IPv4|ipv6|IB|[0-9]{1,5}|::1|10.0.0.1|nqn.2016-06.io.spdk:c1",
            "\\PC{0,12}"
        ];
        let pair = (key, "[=:]", value).prop_map(|(key, sign, value)| key + &sign + &value);
        prop::collection::vec(pair, 0..6).prop_map(|pairs| pairs.join(" "))
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            if let Ok(id) = TransportId::parse(&text) {
                prop_assert_eq!(TransportId::parse(&id.to_string()), Ok(id));
            }
        }

        #[test]
        fn what_parses_is_a_fixed_point(text in nearly()) {
            if let Ok(id) = TransportId::parse(&text) {
                prop_assert_eq!(TransportId::parse(&id.to_string()), Ok(id));
            }
        }

        #[test]
        fn pcie_goes_round(domain: u32, bus: u8, device in 0_u8..32, function in 0_u8..8, ns in 1..u32::MAX) {
            for sign in [':', '.'] {
                let text = format!("trtype=PCIe traddr={domain:x}{sign}{bus:X}{sign}{device:x}.{function} ns={ns}");
                let id = TransportId::parse(&text).unwrap();
                prop_assert_eq!(&id.traddr, &format!("{domain:04x}:{bus:02x}:{device:02x}.{function}"));
                prop_assert_eq!(id.ns, ns);
                prop_assert_eq!(TransportId::parse(&id.to_string()), Ok(id));
            }
        }
    }
}
