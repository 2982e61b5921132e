//! A `server.toml` that is nearly always accepted: its values stay within the limits that it documents, and
//! what is written out is read back as the same settings.
//!
//! The input is not the file: it chooses settings and values from which the file is built, so that most
//! inputs get past the parser.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use fio_spdk::remote::settings::{self, Settings};

use super::draw::Draw;

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// An array of one to seven strings.
fn strings(draw: &mut Draw<'_>, mut one: impl FnMut(&mut Draw<'_>) -> String) -> String {
    let count = 1 + draw.below(7);
    let items: Vec<String> = (0..count).map(|_| quoted(&one(draw))).collect();
    format!("[{}]", items.join(", "))
}

fn address(draw: &mut Draw<'_>) -> String {
    let port = 1 + draw.number() % 65_535;
    match draw.below(5) {
        0 => format!("127.0.0.1:{port}"),
        1 => format!("[::1]:{port}"),
        2 => format!("unix:/run/{port}.sock"),
        3 => format!("lab-{port}:{port}"),
        _ => "0.0.0.0".to_owned(),
    }
}

/// Of text what may be in a name: nothing is empty, and nothing holds a zero byte.
fn name(draw: &mut Draw<'_>) -> String {
    format!("x{}", draw.text().replace('\0', "0"))
}

/// A value of a setting; `None` of one that is not known here.
fn value(draw: &mut Draw<'_>, setting: &str) -> Option<String> {
    let (least, most) = match setting {
        "listen" => return Some(strings(draw, address)),
        "directory" | "tls" => return Some(quoted(&format!("/{}", name(draw)))),
        "devices" | "commands" => return Some(strings(draw, name)),
        "client_timeout" | "answer_within" => {
            let seconds = 1 + draw.number() % 3600;
            return Some(match draw.below(3) {
                0 => seconds.to_string(),
                1 => quoted(&format!("{seconds}s")),
                _ => quoted(&format!("{}m", 1 + seconds / 61)),
            });
        }
        "keep_runs" => (0, 10_000),
        "max_runs" => (1, 64),
        "max_watchers" => (0, 256),
        "max_connections" => (1, 4096),
        "max_handshakes" => (1, 1024),
        _ => return None,
    };
    Some((least + draw.number() % (most - least + 1)).to_string())
}

/// Builds an input from `bytes`, and holds what becomes of it to what is promised; false if it was refused.
pub fn check(bytes: &[u8]) -> bool {
    let mut draw = Draw::new(bytes);
    let mut text = String::new();
    for name in settings::names() {
        if draw.below(3) > 0
            && let Some(value) = value(&mut draw, name)
        {
            let _ = writeln!(text, "{name} = {value}");
        }
    }
    if draw.below(16) == 15 {
        // A text that is broken nearly always.
        text.push_str(&draw.rest());
    }
    let file = PathBuf::from("/etc/fio-spdk/server.toml");
    let read = match Settings::parse(file.clone(), text) {
        Ok(read) => read,
        Err(why) => {
            assert!(!why.is_empty() && !why.contains('\u{1b}'), "{why:?}");
            return false;
        }
    };
    assert!(!read.listen.is_empty());
    assert!(read.directory.is_absolute() && read.tls.is_absolute());
    let times = Duration::from_secs(1)..=Duration::from_secs(3600);
    assert!(times.contains(&read.client_timeout) && times.contains(&read.answer_within));
    assert!((1..=64).contains(&read.max_runs) && (1..=4096).contains(&read.max_connections));
    assert!(read.keep_runs <= 10_000 && read.max_watchers <= 256 && read.max_handshakes >= 1);
    assert!(
        read.devices.iter().chain(&read.commands).all(|one| !one.trim().is_empty() && !one.contains('\0'))
    );
    // The template lists neither addresses nor devices nor commands, and whole seconds.
    let template = settings::template(&read, false);
    let again = Settings::parse(file, template.clone()).unwrap_or_else(|why| panic!("{why}\n{template}"));
    assert_eq!((&again.directory, &again.tls, again.keep_runs), (&read.directory, &read.tls, read.keep_runs));
    assert_eq!(again.client_timeout.as_secs(), read.client_timeout.as_secs());
    assert_eq!((again.max_runs, again.max_watchers), (read.max_runs, read.max_watchers));
    true
}
