//! The kinds of value that options take: how each is parsed, printed and described.

use super::diagnostic::{Issue, nearest};
use super::shapes;
use super::spec::JobSpec;
use super::value::{Data, Outcome, Value, per_op, quote, quote_list, show_per_op};
use crate::base::PerOp;
use crate::base::shape::Amount;
use crate::base::units::{format_size, parse_size, parse_time_ns};

/// The place in a job where an option lands.
pub(crate) type Field<T> = fn(&mut JobSpec) -> &mut T;

/// Where a number lands. For the `Maybe` ones, see [`Kind::Integer`] and its like.
#[derive(Clone, Copy)]
pub(crate) enum Number {
    U8(Field<u8>),
    U16(Field<u16>),
    U32(Field<u32>),
    U64(Field<u64>),
    MaybeU32(Field<Option<u32>>),
    MaybeU64(Field<Option<u64>>),
    /// 0 stands for the default.
    NonZeroU32(Field<Option<u32>>),
    /// 0 where nothing is said.
    ZeroUnset(Field<u64>),
    /// 0 takes the limit away, as in fio.
    NonZeroU64(Field<Option<u64>>),
    /// One for each direction.
    PerOp(Field<PerOp<u32>>),
    /// The same, being the smallest block size where nothing is said.
    PerOpOrBs(Field<PerOp<u32>>),
    /// As much as `iodepth` where it is 0.
    OrDepth(Field<u32>),
}

/// A word that an option may be set to, and other ways to say it.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    pub name: &'static str,
    pub also: &'static [&'static str],
}

/// What an option takes.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// true or false.
    Flag(Field<bool>),
    /// true or false, obeyed by nobody.
    Ignored,
    /// A number without unit, within bounds.
    Integer { min: u64, max: u64, field: Number },
    /// Bytes, within bounds.
    Size { min: u64, max: u64, field: Number },
    /// A time; a bare number is seconds.
    Time(Number),
    /// Bytes or a percentage.
    Amount(Field<Amount>),
    /// Bytes or a percentage; 0 takes the limit away, as in fio.
    MaybeAmount(Field<Option<Amount>>),
    /// One of a few words.
    Choice {
        choices: &'static [Choice],
        set: fn(&mut JobSpec, &'static str),
        get: fn(&JobSpec) -> &'static str,
    },
    /// Whatever else: its form in words, words it may consist of, how it is set, and how it is shown
    /// in TOML.
    Special {
        form: &'static str,
        words: &'static [&'static str],
        set: fn(&mut JobSpec, &Value) -> Outcome<()>,
        show: fn(&JobSpec) -> Option<String>,
    },
}

impl Kind {
    /// Sets the option.
    pub(crate) fn set(&self, job: &mut JobSpec, value: &Value) -> Outcome<()> {
        match self {
            Kind::Flag(field) => *field(job) = flag(value)?,
            Kind::Ignored => {
                flag(value)?;
            }
            Kind::Integer { min, max, field } => field.set(job, value, |v| integer(v, *min, *max))?,
            Kind::Size { min, max, field } => field.set(job, value, |v| size(v, *min, *max))?,
            Kind::Time(field) => field.set(job, value, time)?,
            Kind::Amount(field) => *field(job) = amount(value)?,
            Kind::MaybeAmount(field) => {
                *field(job) = match amount(value)? {
                    Amount::Bytes(0) => None,
                    Amount::Percent(0.0) => return Err(value.bad("0% is nothing at all")),
                    some => Some(some),
                }
            }
            Kind::Choice { choices, set, .. } => set(job, choose(value, choices)?),
            Kind::Special { set, .. } => set(job, value)?,
        }
        Ok(())
    }

    /// The option's value in TOML; `None` where there is none. The job stays as it is: fields are
    /// reached through `&mut` so that one accessor in the table serves both ways.
    pub(crate) fn show(&self, job: &mut JobSpec) -> Option<String> {
        match self {
            Kind::Flag(field) => Some(field(job).to_string()),
            Kind::Ignored => None,
            Kind::Integer { field, .. } => field.show(job, show_integer),
            Kind::Size { field, .. } => field.show(job, shapes::show_size),
            Kind::Time(field) => field.show(job, show_time),
            Kind::Amount(field) => Some(show_amount(*field(job))),
            Kind::MaybeAmount(field) => (*field(job)).map(show_amount),
            Kind::Choice { get, .. } => Some(quote(get(job))),
            Kind::Special { show, .. } => show(job),
        }
    }

    /// The form of the values, in words.
    pub(crate) fn form(&self) -> String {
        match self {
            Kind::Flag(_) | Kind::Ignored => "true or false".to_owned(),
            Kind::Integer { min, max, field } => {
                let range = match *max {
                    u64::MAX if *min == 0 => "integer".to_owned(),
                    u64::MAX => format!("integer, at least {min}"),
                    _ => format!("integer from {min} to {max}"),
                };
                range + field.directions()
            }
            Kind::Size { min, max, field } => {
                format!("size from {} to {}", format_size(*min), format_size(*max)) + field.directions()
            }
            Kind::Time(_) => "time: seconds, or a string with a unit such as \"100ms\"".to_owned(),
            Kind::Amount(_) | Kind::MaybeAmount(_) => "size, or a percentage such as \"20%\"".to_owned(),
            Kind::Choice { choices, .. } => {
                let names: Vec<&str> = choices.iter().map(|choice| choice.name).collect();
                format!("one of {}", names.join(", "))
            }
            Kind::Special { form, .. } => (*form).to_owned(),
        }
    }
}

impl Number {
    fn set(self, job: &mut JobSpec, value: &Value, parse: impl Fn(&Value) -> Outcome<u64>) -> Outcome<()> {
        let small = |value: &Value| -> Outcome<u32> { fitting(value, parse(value)?) };
        match self {
            Number::U8(field) => *field(job) = fitting(value, parse(value)?)?,
            Number::U16(field) => *field(job) = fitting(value, parse(value)?)?,
            Number::NonZeroU32(field) => *field(job) = Some(small(value)?).filter(|&number| number > 0),
            Number::U32(field) | Number::OrDepth(field) => *field(job) = small(value)?,
            Number::U64(field) | Number::ZeroUnset(field) => *field(job) = parse(value)?,
            Number::MaybeU32(field) => *field(job) = Some(small(value)?),
            Number::MaybeU64(field) => *field(job) = Some(parse(value)?),
            Number::NonZeroU64(field) => *field(job) = Some(parse(value)?).filter(|&number| number > 0),
            Number::PerOp(field) | Number::PerOpOrBs(field) => per_op(value, field(job), small)?,
        }
        Ok(())
    }

    fn show(self, job: &mut JobSpec, show: impl Fn(u64) -> String) -> Option<String> {
        match self {
            Number::U8(field) => Some(show(u64::from(*field(job)))),
            Number::U16(field) => Some(show(u64::from(*field(job)))),
            Number::U32(field) => Some(show(u64::from(*field(job)))),
            Number::U64(field) => Some(show(*field(job))),
            Number::ZeroUnset(field) => Some(*field(job)).filter(|&number| number > 0).map(show),
            Number::MaybeU32(field) | Number::NonZeroU32(field) => {
                (*field(job)).map(|number| show(u64::from(number)))
            }
            Number::MaybeU64(field) | Number::NonZeroU64(field) => (*field(job)).map(show),
            Number::PerOp(field) => Some(show_per_op(field(job), |&number| show(u64::from(number)))),
            Number::PerOpOrBs(field) => {
                let smallest = PerOp::from_fn(|op| job.bs.get(op).min());
                let value = field(job);
                (*value != smallest).then(|| show_per_op(value, |&number| show(u64::from(number))))
            }
            Number::OrDepth(field) => {
                let depth = job.iodepth;
                Some(*field(job)).filter(|&number| number != depth).map(|number| show(u64::from(number)))
            }
        }
    }

    fn directions(self) -> &'static str {
        if matches!(self, Number::PerOp(_) | Number::PerOpOrBs(_)) { "; per direction" } else { "" }
    }
}

/// A number in the width that it has in the job; the range of the option should see to it.
fn fitting<T: TryFrom<u64>>(value: &Value, number: u64) -> Outcome<T> {
    T::try_from(number).map_err(|_| value.bad(format!("{number} is too large")))
}

fn flag(value: &Value) -> Outcome<bool> {
    match &value.data {
        Data::Bool(flag) => Ok(*flag),
        Data::Integer(Some(0)) => Ok(false),
        Data::Integer(Some(1)) => Ok(true),
        Data::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            // On the command line an option without a value, as in fio.
            "" | "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err(value.bad(format!("`{text}` is neither true nor false"))),
        },
        Data::Integer(_) => Err(value.bad("expected true or false, found a number other than 0 and 1")),
        _ => Err(value.wrong("true or false")),
    }
}

/// An integer of 0 or more that TOML or the command line holds.
fn whole(value: &Value, expected: &str) -> Outcome<Option<u64>> {
    match &value.data {
        Data::Integer(Some(number)) => match u64::try_from(*number) {
            Ok(number) => Ok(Some(number)),
            Err(_) if *number < 0 => Err(value.bad("must not be negative")),
            Err(_) => Err(value.bad("the number is too large")),
        },
        Data::Integer(None) => Err(value.bad("the number is too large")),
        Data::Text(_) => Ok(None),
        _ => Err(value.wrong(expected)),
    }
}

pub(crate) fn integer(value: &Value, min: u64, max: u64) -> Outcome<u64> {
    let number = match (whole(value, "an integer")?, &value.data) {
        (Some(number), _) => number,
        (None, Data::Text(text)) => {
            // fio reads counts like sizes: `number_ios=1k`.
            parse_size(text).map_err(|_| value.bad(format!("`{text}` is no integer")))?
        }
        _ => return Err(value.wrong("an integer")),
    };
    within(value, number, min, max, |number| number.to_string())
}

/// A size within bounds.
pub(crate) fn size(value: &Value, min: u64, max: u64) -> Outcome<u64> {
    let bytes = match (whole(value, "a size")?, &value.data) {
        (Some(bytes), _) => bytes,
        (None, Data::Text(text)) => parse_size(text).map_err(|why| value.bad(why))?,
        _ => return Err(value.wrong("a size")),
    };
    within(value, bytes, min, max, format_size)
}

fn within(value: &Value, number: u64, min: u64, max: u64, show: fn(u64) -> String) -> Outcome<u64> {
    if number < min {
        return Err(value.bad(format!("{} is below {}", show(number), show(min))));
    }
    if number > max {
        return Err(value.bad(format!("{} is above {}", show(number), show(max))));
    }
    Ok(number)
}

pub(crate) fn time(value: &Value) -> Outcome<u64> {
    const SECOND: u64 = crate::base::units::SECOND_NS;
    let text = match &value.data {
        Data::Integer(_) => match whole(value, "a time")? {
            Some(seconds) => seconds.to_string(),
            None => return Err(value.wrong("a time")),
        },
        Data::Float(number) => number.clone(),
        Data::Text(text) => text.clone(),
        _ => return Err(value.wrong("a time")),
    };
    parse_time_ns(&text, SECOND).map_err(|why| value.bad(why))
}

/// A time above 0, or two that rise, with `..` between them; one counts as both.
pub(crate) fn window(value: &Value) -> Outcome<(u64, u64)> {
    let parts = match &value.data {
        Data::Text(text) => text.split_once(".."),
        _ => None,
    };
    let part =
        |text: &str| parse_time_ns(text.trim(), crate::base::units::SECOND_NS).map_err(|why| value.bad(why));
    let (from, to) = match parts {
        Some((from, to)) => (part(from)?, part(to)?),
        None => {
            let at = time(value)?;
            (at, at)
        }
    };
    if from > to || to == 0 {
        return Err(value.bad("expected a time above 0, or a window that rises, such as \"20s..40s\""));
    }
    Ok((from, to))
}

fn amount(value: &Value) -> Outcome<Amount> {
    if let Data::Text(text) = &value.data
        && let Some(number) = text.trim().strip_suffix('%')
    {
        return match percent(number) {
            Some(percent) => Ok(Amount::Percent(percent)),
            None => Err(value.bad(format!("`{text}` is no percentage from 0% to 100%"))),
        };
    }
    size(value, 0, u64::MAX).map(Amount::Bytes)
}

/// A share from 0 to 100, written in plain digits.
pub(crate) fn percent(text: &str) -> Option<f64> {
    let text = text.trim();
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = if plain { text.parse().ok()? } else { return None };
    (0.0..=100.0).contains(&number).then_some(number)
}

pub(crate) fn choose(value: &Value, choices: &'static [Choice]) -> Outcome<&'static str> {
    let text = match &value.data {
        Data::Text(text) => text.trim().to_ascii_lowercase(),
        Data::Bool(flag) => flag.to_string(),
        Data::Integer(Some(number)) => number.to_string(),
        _ => return Err(value.wrong("a string")),
    };
    let found = choices.iter().find(|choice| choice.name == text || choice.also.contains(&text.as_str()));
    if let Some(choice) = found {
        return Ok(choice.name);
    }
    let issue = value.bad(format!("`{text}` is none of the choices"));
    Err(with_nearest(issue, &text, choices.iter().map(|choice| choice.name)))
}

/// Adds the nearest known word.
pub(crate) fn with_nearest<'a>(issue: Issue, word: &str, known: impl Iterator<Item = &'a str>) -> Issue {
    match nearest(word, known) {
        Some(name) => issue.help(format!("did you mean `{name}`?")),
        None => issue,
    }
}

/// An integer in TOML, whose own integers end at 2^63.
pub(crate) fn show_integer(number: u64) -> String {
    if i64::try_from(number).is_ok() { number.to_string() } else { quote(&number.to_string()) }
}

pub(crate) fn show_time(ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns")];
    let found = units.iter().find(|(scale, _)| ns.is_multiple_of(*scale));
    let (scale, unit) = found.unwrap_or(&(1, "ns"));
    quote(&format!("{}{unit}", ns / scale))
}

fn show_amount(amount: Amount) -> String {
    match amount {
        Amount::Bytes(bytes) => shapes::show_size(bytes),
        Amount::Percent(percent) => quote(&format!("{percent}%")),
    }
}

/// A list of texts, or what `split` makes of one text.
pub(crate) fn texts(value: &Value, split: impl Fn(&str) -> Vec<String>) -> Outcome<Vec<String>> {
    let items = match &value.data {
        Data::Text(text) => split(text),
        Data::List(items) => items.iter().map(text).collect::<Outcome<Vec<String>>>()?,
        _ => return Err(value.wrong("a string or an array of strings")),
    };
    if items.is_empty() || items.iter().any(String::is_empty) {
        return Err(value.bad("there is an empty name"));
    }
    if items.iter().any(|item| item.contains('\0')) {
        return Err(value.bad("a name cannot hold a zero byte"));
    }
    Ok(items)
}

/// A string.
pub(crate) fn text(value: &Value) -> Outcome<String> {
    match &value.data {
        Data::Text(text) => Ok(text.clone()),
        _ => Err(value.wrong("a string")),
    }
}

/// A list of texts in TOML: one alone as a string, unless a `:` or `\` would be read as fio's.
pub(crate) fn show_texts(items: &[String]) -> Option<String> {
    match items {
        [] => None,
        [one] if !one.contains([':', '\\']) => Some(quote(one)),
        _ => Some(quote_list(items.iter().map(String::as_str))),
    }
}
