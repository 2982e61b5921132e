//! The grammar of `cmdprio_class` and `cmdprio_bssplit`.

use super::kind::texts;
use super::shapes::size_text;
use super::spec::JobSpec;
use super::spec::commands::PrioritySplit;
use super::value::{Data, Outcome, Value, per_op, quote, show_per_op};
use crate::base::ioprio::{IoPriority, MAX_HINT, MAX_LEVEL};
use crate::base::units::parse_size;

const CLASSES: [&str; 4] = ["rt", "rt", "be", "idle"];

fn class_in(value: &Value, text: &str) -> Outcome<u32> {
    match text.trim().to_ascii_lowercase().as_str() {
        "rt" | "1" => Ok(0),
        "be" | "2" => Ok(2),
        "idle" | "3" => Ok(3),
        other => Err(value.bad(format!("`{other}` is none of the classes rt, be and idle"))),
    }
}

/// 0 stands for the default, which is the highest.
const HIGHEST: u32 = 1;

/// `cmdprio_class`.
pub(crate) fn set_class(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    per_op(value, &mut job.commands.prio_class, |value| match &value.data {
        Data::Text(text) => class_in(value, text),
        Data::Integer(Some(number)) => class_in(value, &number.to_string()),
        _ => Err(value.wrong("a class")),
    })
}

/// `cmdprio_class` in TOML.
pub(crate) fn show_class(job: &JobSpec) -> String {
    show_per_op(&job.commands.prio_class, |&class| quote(CLASSES[(class as usize).min(3)]))
}

/// `cmdprio_bssplit`.
pub(crate) fn set_bssplit(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    per_op(value, &mut job.commands.prio_split, split)
}

fn split(value: &Value) -> Outcome<Vec<PrioritySplit>> {
    let entries = texts(value, |text| text.split(':').map(str::to_owned).collect())?;
    let mut list: Vec<PrioritySplit> = Vec::new();
    for text in &entries {
        let parts: Vec<&str> = text.split('/').collect();
        let [bytes, percent, rest @ ..] = parts.as_slice() else {
            return Err(value
                .bad(format!("`{text}` has no percentage"))
                .help("for example \"4k/10:64k/50\""));
        };
        let bytes = parse_size(bytes).map_err(|why| value.bad(format!("`{bytes}`: {why}")))?;
        let bytes = u32::try_from(bytes).map_err(|_| value.bad("the length is too large"))?;
        let number = |text: &str, max: u16| {
            text.trim()
                .parse::<u16>()
                .ok()
                .filter(|&number| number <= max)
                .ok_or_else(|| value.bad(format!("`{text}` is no whole number from 0 to {max}")))
        };
        let percent = u32::from(number(percent, 100)?);
        let priority = match rest {
            [] => None,
            [class, level, hint @ ..] if hint.len() <= 1 => {
                let class = u16::try_from(class_in(value, class)?.max(HIGHEST)).unwrap_or(0);
                let hint = hint.first().map_or(Ok(0), |hint| number(hint, MAX_HINT))?;
                Some(IoPriority::new(class, number(level, MAX_LEVEL)?, hint))
            }
            _ => {
                let issue = value.bad(format!("`{text}` names a class without a level, or too much"));
                return Err(issue.help("bs/percent, bs/percent/class/level or bs/percent/class/level/hint"));
            }
        };
        list.push(PrioritySplit { bytes, percent, priority });
        let of_length = list.iter().filter(|entry| entry.bytes == bytes);
        if of_length.map(|entry| entry.percent).sum::<u32>() > 100 {
            return Err(value.bad(format!("the shares of {bytes} bytes are more than 100 percent")));
        }
    }
    Ok(list)
}

/// `cmdprio_bssplit` in TOML, if it is set.
pub(crate) fn show_bssplit(job: &JobSpec) -> Option<String> {
    let entry = |entry: &PrioritySplit| {
        let start = format!("{}/{}", size_text(u64::from(entry.bytes)), entry.percent);
        match entry.priority {
            None => start,
            Some(priority) => {
                let class = CLASSES[usize::from(priority.class()).min(3)];
                format!("{start}/{class}/{}/{}", priority.level(), priority.hint())
            }
        }
    };
    let split = &job.commands.prio_split;
    // Where a direction has none, it is left out of the table.
    let parts: Vec<String> = split
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(op, list)| {
            let entries: Vec<String> = list.iter().map(entry).collect();
            format!("{} = {}", op.name(), quote(&entries.join(":")))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("{{ {} }}", parts.join(", ")))
}
