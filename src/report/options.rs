//! A job's options as fio writes them: names to bare text.

use crate::base::shape::{BlockSizes, Mix};
use crate::base::units::format_size;
use crate::base::{Op, PerOp};
use crate::job::JobSpec;

/// fio's name of what a job does: `randread`, `write`, `trimwrite`.
pub(super) fn rw_name(spec: &JobSpec) -> String {
    let random = if spec.random { "rand" } else { "" };
    let name = match spec.mix {
        Mix::Read => "read",
        Mix::Write => "write",
        Mix::Trim => "trim",
        Mix::ReadWrite => "rw",
        Mix::TrimWrite => "trimwrite",
        Mix::Replayed { reads: true, writes: false, trims: false } => "read",
        Mix::Replayed { reads: false, writes: true, trims: false } => "write",
        Mix::Replayed { reads: false, writes: false, trims: true } => "trim",
        Mix::Replayed { .. } => "rw",
    };
    format!("{random}{name}")
}

/// Block sizes for people: `4KiB`, `read 4KiB write 512B-64KiB`, `4KiB/60%:64KiB/40%`. Only those
/// of commands that the job issues.
pub(super) fn bs_text(spec: &JobSpec) -> String {
    let used: Vec<(Op, &BlockSizes)> = spec.bs.iter().filter(|(op, _)| spec.mix.issues(*op)).collect();
    match used.as_slice() {
        [] => String::new(),
        [(_, first), rest @ ..] if rest.iter().all(|(_, sizes)| sizes == first) => sizes_text(first),
        all => {
            let parts: Vec<String> =
                all.iter().map(|(op, sizes)| format!("{} {}", op.name(), sizes_text(sizes))).collect();
            parts.join(" ")
        }
    }
}

fn sizes_text(sizes: &BlockSizes) -> String {
    match sizes {
        BlockSizes::Fixed(size) => format_size(u64::from(*size)),
        BlockSizes::Range { min, max } | BlockSizes::Unaligned { min, max } => {
            format!("{}-{}", format_size(u64::from(*min)), format_size(u64::from(*max)))
        }
        BlockSizes::Split(list) => {
            let parts: Vec<String> = list
                .iter()
                .map(|(size, percent)| format!("{}/{percent}%", format_size(u64::from(*size))))
                .collect();
            parts.join(":")
        }
    }
}

/// fio's "job options". What the job left at its default is left out, but for the five that tools
/// look for in every result (fio-plot refuses a job without rw, iodepth and numjobs).
pub(super) fn job_options(spec: &JobSpec) -> Vec<(String, String)> {
    let mut options: Vec<(String, String)> =
        spec.options.iter().map(|(name, value)| (name.clone(), bare_text(name, value))).collect();
    let wanted = [
        ("ioengine", spec.ioengine.clone()),
        ("rw", rw_name(spec)),
        ("bs", fio_bs(&spec.bs)),
        ("iodepth", spec.iodepth.to_string()),
        ("numjobs", spec.numjobs.to_string()),
    ];
    for (name, value) in wanted {
        let sized_otherwise = name == "bs" && options.iter().any(|(known, _)| known.starts_with("bs"));
        if !sized_otherwise && !options.iter().any(|(known, _)| known == name) {
            options.push((name.to_owned(), value));
        }
    }
    options
}

fn fio_bs(bs: &PerOp<BlockSizes>) -> String {
    let one = |sizes: &BlockSizes| {
        let bytes = sizes.max();
        if bytes.is_multiple_of(1024) { format!("{}k", bytes / 1024) } else { bytes.to_string() }
    };
    if bs.read == bs.write && bs.write == bs.trim {
        return one(&bs.read);
    }
    format!("{},{},{}", one(&bs.read), one(&bs.write), one(&bs.trim))
}

/// A value in TOML as fio would have it on its right-hand side.
fn bare_text(name: &str, value: &str) -> String {
    match toml::from_str::<toml::Table>(&format!("value = {value}")) {
        Ok(table) => table.get("value").map_or_else(|| value.to_owned(), |parsed| bare_value(name, parsed)),
        Err(_) => value.to_owned(),
    }
}

fn bare_value(name: &str, value: &toml::Value) -> String {
    // fio separates files by colons and everything else by commas.
    let separator = if name == "filename" { ":" } else { "," };
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Boolean(on) => u8::from(*on).to_string(),
        toml::Value::Array(list) => {
            list.iter().map(|item| bare_value(name, item)).collect::<Vec<_>>().join(separator)
        }
        toml::Value::Table(table) if ["read", "write", "trim"].iter().any(|op| table.contains_key(*op)) => {
            ["read", "write", "trim"]
                .map(|op| table.get(op).map_or_else(String::new, |item| bare_value(name, item)))
                .join(",")
                .trim_end_matches(',')
                .to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lose_what_only_toml_needs() {
        for (name, toml, fio) in [
            ("bs", "\"4k\"", "4k"),
            ("iodepth", "32", "32"),
            ("time_based", "true", "1"),
            ("direct", "false", "0"),
            ("filename", "[\"/dev/a\", \"/dev/b\"]", "/dev/a:/dev/b"),
            ("cpus_allowed", "[0, 2]", "0,2"),
            ("bs", "{ read = \"4k\", write = \"8k\" }", "4k,8k"),
            ("name", "'a \"b\"'", "a \"b\""),
            ("odd", "no toml", "no toml"),
        ] {
            assert_eq!(bare_text(name, toml), fio, "{toml}");
        }
    }
}
