//! PCI addresses, and which driver has the device there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{Sysfs, attribute, link_name};

/// Where a function stands on PCI: domain, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl FromStr for Bdf {
    type Err = String;

    /// `0000:5e:00.0`, `5e:00.0`; dots and colons mean the same, since in names of targets a colon
    /// parts several (fio writes `0000.5e.00.0`).
    fn from_str(text: &str) -> Result<Bdf, String> {
        let wrong = || format!("`{text}` is no PCI address: expected one such as 0000:5e:00.0 or 5e:00.0");
        let parts: Vec<&str> = text.trim().split([':', '.']).collect();
        let hex = |text: &str, digits: usize| {
            let is_hex = (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
            is_hex.then(|| u32::from_str_radix(text, 16).ok()).flatten()
        };
        let byte = |text: &str, digits: usize, most: u8| {
            hex(text, digits).and_then(|value| u8::try_from(value).ok()).filter(|value| *value <= most)
        };
        let (domain, rest) = match parts.as_slice() {
            [domain, rest @ ..] if rest.len() == 3 => (hex(domain, 8), rest),
            rest => (Some(0), rest),
        };
        let [bus, device, function] = rest else { return Err(wrong()) };
        let read = || {
            Some(Bdf {
                domain: domain?,
                bus: byte(bus, 2, 0xff)?,
                device: byte(device, 2, 0x1f)?,
                function: byte(function, 1, 7)?,
            })
        };
        read().ok_or_else(wrong)
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

/// The directory of a device, whether it is there or not.
#[must_use]
pub fn directory(sysfs: &Sysfs, bdf: &str) -> PathBuf {
    sysfs.sys.join("bus/pci/devices").join(bdf)
}

/// The driver that has a device.
#[must_use]
pub fn driver(sysfs: &Sysfs, bdf: &str) -> Option<String> {
    link_name(&directory(sysfs, bdf).join("driver"))
}

/// The driver that alone may have the device, as somebody wrote it into `driver_override`.
#[must_use]
pub fn driver_override(sysfs: &Sysfs, bdf: &str) -> Option<String> {
    attribute(&directory(sysfs, bdf).join("driver_override")).filter(|name| name != "(null)")
}

/// Class code: base class, subclass, programming interface.
#[must_use]
pub fn class(sysfs: &Sysfs, bdf: &str) -> Option<u32> {
    let text = attribute(&directory(sysfs, bdf).join("class"))?;
    u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_short_or_long_with_dots_or_colons() {
        for text in ["0000:5e:00.0", "5e:00.0", "0000.5e.00.0", "5E:0.0", "5e.00.0", " 0:5e:00:0 "] {
            assert_eq!(
                text.parse::<Bdf>().map(|bdf| bdf.to_string()),
                Ok("0000:5e:00.0".to_owned()),
                "{text}"
            );
        }
        assert_eq!("10000:e1:1f.7".parse::<Bdf>().unwrap().to_string(), "10000:e1:1f.7");
        for text in [
            "",
            "5e",
            "5e:00",
            "5e:20.0",
            "5e:00.8",
            "100:00.0",
            "5e:00.0.0.0",
            "nvme0",
            "+5e:00.0",
            "5g:00.0",
        ] {
            assert!(text.parse::<Bdf>().is_err(), "{text}");
        }
    }
}
