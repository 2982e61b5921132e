//! Of engine `spdk`: `filename`, whose targets are transport ids, and options that are no plain values.

use super::diagnostic::Issue;
use super::kind::{text, texts};
use super::resolve::Draft;
use super::spec::JobSpec;
use super::value::{Data, Outcome, Value, quote};
use crate::base::spdk::PiCheck;
use crate::base::transport_id::{self, TransportId};

/// The engine's name in job files.
pub(crate) const ENGINE: &str = "spdk";

/// The words of `pi_chk`.
pub(crate) const CHECKS: [&str; 3] = ["GUARD", "REFTAG", "APPTAG"];

const EXAMPLE: &str = "for example filename = \"trtype=PCIe traddr=0000:5e:00.0 ns=1\"";

/// Whether a text begins with `trtype` and its sign.
fn begins_id(text: &str) -> bool {
    let text = text.trim_start();
    let key = text.get(..6).is_some_and(|key| key.eq_ignore_ascii_case("trtype"));
    key && text[6..].starts_with(['=', ':'])
}

/// Whether a name is meant for SPDK, not for the kernel: no file is ever called so by intent.
pub(crate) fn names_transport(text: &str) -> bool {
    text.split_whitespace().any(begins_id)
}

/// fio's list of files, made of transport ids: these hold `:` themselves, so a new one begins only
/// where `trtype` follows. `\:` is a colon too, as fio needs it there.
pub(crate) fn split_ids(text: &str) -> Vec<String> {
    let mut ids = vec![String::new()];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let escaped = after.strip_prefix(':').filter(|_| c == '\\');
        rest = escaped.unwrap_or(after);
        if c == ':' && begins_id(after) {
            ids.push(String::new());
        } else if let Some(id) = ids.last_mut() {
            id.push(if escaped.is_some() { ':' } else { c });
        }
    }
    ids
}

/// Reads `filename` as what the job's engine takes, now that the engine is known.
pub(crate) fn settle(draft: &mut Draft<'_>, issues: &mut Vec<Issue>) {
    if draft.job.ioengine != ENGINE {
        if let Some(name) = draft.job.filename.iter().find(|name| names_transport(name)) {
            let short: String = name.chars().take(80).collect();
            let message = format!(
                "`filename`: `{short}` names a device for SPDK, and `{}` opens files",
                draft.job.ioengine
            );
            issues.push(Issue::new(message).at(draft.place("filename")).help("set ioengine = \"spdk\""));
        }
        return;
    }
    let Some(value) = draft.setting("filename").map(|setting| setting.value.clone()) else {
        let message = "the `spdk` engine needs `filename`: the transport id of a namespace";
        issues.push(Issue::new(message).at(draft.place("ioengine")).help(EXAMPLE));
        return;
    };
    match targets(&value) {
        Ok(ids) => draft.job.filename = ids,
        Err(mut issue) => {
            issue.message = format!("`filename`: {}", issue.message);
            issue.place.get_or_insert_with(|| value.place.clone());
            issues.push(issue);
        }
    }
}

/// The targets in their canonical spelling.
fn targets(value: &Value) -> Outcome<Vec<String>> {
    let names = texts(value, split_ids)?;
    let mut ids: Vec<String> = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let at = match &value.data {
            Data::List(items) => items.get(index).unwrap_or(value),
            _ => value,
        };
        let id = match TransportId::parse(name) {
            Ok(id) => id.to_string(),
            Err(why) => {
                let issue = at.bad(why).label("expected a transport id of SPDK");
                let is_path = name.starts_with("/dev/");
                return Err(if is_path {
                    issue.help(format!("`fio-spdk devices` lists addresses; {EXAMPLE}"))
                } else {
                    issue.help(EXAMPLE)
                });
            }
        };
        ids.push(id);
    }
    let mut sorted: Vec<&String> = ids.iter().collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(value.bad(format!("`{}` is there twice", pair[0])));
    }
    Ok(ids)
}

/// `huge_dir`.
pub(crate) fn set_huge_dir(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let path = text(value)?;
    if path.is_empty() || path.contains('\0') {
        return Err(value.bad("this cannot be a directory"));
    }
    job.spdk.huge_dir = Some(path);
    Ok(())
}

/// `hostnqn`.
pub(crate) fn set_hostnqn(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let name = text(value)?;
    transport_id::check_nqn(&name).map_err(|why| value.bad(why))?;
    job.spdk.hostnqn = Some(name);
    Ok(())
}

/// `pi_chk`.
pub(crate) fn set_pi_chk(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let words = match &value.data {
        Data::Text(text) if text.trim().eq_ignore_ascii_case("none") => Vec::new(),
        _ => texts(value, |text| text.split('|').map(|word| word.trim().to_owned()).collect())?,
    };
    let mut check = PiCheck::default();
    for word in &words {
        match word.to_ascii_uppercase().as_str() {
            "GUARD" => check.guard = true,
            "REFTAG" => check.reference = true,
            "APPTAG" => check.application = true,
            _ => {
                return Err(value.bad(format!("`{word}` is none of {}", CHECKS.join(", "))));
            }
        }
    }
    job.spdk.pi_chk = check;
    Ok(())
}

/// `pi_chk` in TOML, if there is something to check.
pub(crate) fn show_pi_chk(job: &JobSpec) -> Option<String> {
    let PiCheck { guard, reference, application } = job.spdk.pi_chk;
    let words = CHECKS.into_iter().zip([guard, reference, application]);
    let words: Vec<&str> = words.filter(|(_, set)| *set).map(|(word, _)| word).collect();
    (!words.is_empty()).then(|| quote(&words.join("|")))
}
