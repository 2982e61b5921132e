//! Values with the places they came from: TOML's, and the texts of the command line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Issue, Place};
use crate::base::PerOp;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub data: Data,
    pub place: Place,
}

/// What TOML can say.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// An integer; `None` if it does not even fit 128 bits.
    Integer(Option<i128>),
    /// A fraction, as written.
    Float(String),
    Bool(bool),
    Text(String),
    Date,
    List(Vec<Value>),
    Table(Vec<(String, Place, Value)>),
}

/// What a failed setting gives.
pub(crate) type Outcome<T> = Result<T, Issue>;

impl Value {
    /// A value of a parsed document, `shift` bytes into its source.
    pub(crate) fn from_toml(value: &Spanned<DeValue<'_>>, source: usize, shift: usize) -> Value {
        let data = match value.get_ref() {
            DeValue::String(text) => Data::Text(text.to_string()),
            DeValue::Integer(number) => {
                Data::Integer(i128::from_str_radix(number.as_str(), number.radix()).ok())
            }
            DeValue::Float(number) => Data::Float(number.as_str().to_owned()),
            DeValue::Boolean(flag) => Data::Bool(*flag),
            DeValue::Datetime(_) => Data::Date,
            DeValue::Array(items) => {
                Data::List(items.iter().map(|item| Value::from_toml(item, source, shift)).collect())
            }
            DeValue::Table(table) => Data::Table(entries(table, source, shift)),
        };
        Value { data, place: place(value.span(), source, shift) }
    }

    /// What a copy takes, roughly, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let own = size_of::<Value>();
        own + match &self.data {
            Data::Text(text) | Data::Float(text) => text.len(),
            Data::List(items) => items.iter().map(Value::bytes).sum(),
            Data::Table(entries) => entries.iter().map(|(name, _, value)| name.len() + value.bytes()).sum(),
            Data::Integer(_) | Data::Bool(_) | Data::Date => 0,
        }
    }

    /// What kind of value stands there, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.data {
            Data::Integer(_) => "an integer",
            Data::Float(_) => "a fraction",
            Data::Bool(_) => "true or false",
            Data::Text(_) => "a string",
            Data::Date => "a date",
            Data::List(_) => "an array",
            Data::Table(_) => "a table",
        }
    }

    /// Says that another kind of value belongs here.
    pub(crate) fn wrong(&self, expected: &str) -> Issue {
        Issue::new(format!("expected {expected}, found {}", self.kind())).at(&self.place)
    }

    /// A mistake in this value.
    pub(crate) fn bad(&self, message: impl Into<String>) -> Issue {
        Issue::new(message).at(&self.place)
    }

    /// A part of this value's text as a value of its own. The mark stays on the whole.
    fn part(&self, text: &str) -> Value {
        Value { data: Data::Text(text.trim().to_owned()), place: self.place.clone() }
    }
}

/// The entries of a table.
pub(crate) fn entries(table: &DeTable<'_>, source: usize, shift: usize) -> Vec<(String, Place, Value)> {
    let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        (key.get_ref().to_string(), place(key.span(), source, shift), Value::from_toml(value, source, shift))
    };
    table.iter().map(entry).collect()
}

pub(crate) fn place(span: std::ops::Range<usize>, source: usize, shift: usize) -> Place {
    Place { source, span: span.start + shift..span.end + shift }
}

/// Sets the directions that `value` names: a table, fio's `read,write,trim` string, or one value
/// for all. What a table or an empty part leaves out keeps its value; directions that fio's string
/// does not reach repeat the last.
pub(crate) fn per_op<T: Clone>(
    value: &Value,
    target: &mut PerOp<T>,
    parse: impl Fn(&Value) -> Outcome<T>,
) -> Outcome<()> {
    match &value.data {
        Data::Table(entries) => {
            if entries.is_empty() {
                return Err(value.bad("the table names no direction").label("expected read, write or trim"));
            }
            for (name, place, value) in entries {
                let parsed = parse(value)?;
                match name.as_str() {
                    "read" => target.read = parsed,
                    "write" => target.write = parsed,
                    "trim" => target.trim = parsed,
                    _ => {
                        return Err(Issue::new(format!("`{name}` is no direction"))
                            .at(place)
                            .label("expected read, write or trim"));
                    }
                }
            }
        }
        Data::Text(text) if text.contains(',') => {
            let parts: Vec<&str> = text.split(',').collect();
            if parts.len() > 3 {
                return Err(value.bad("more than three parts: the order is read,write,trim"));
            }
            let mut last = None;
            for (index, slot) in target.iter_mut().map(|(_, slot)| slot).enumerate() {
                if let Some(part) = parts.get(index) {
                    last = if part.trim().is_empty() { None } else { Some(parse(&value.part(part))?) };
                }
                if let Some(parsed) = &last {
                    *slot = parsed.clone();
                }
            }
        }
        _ => *target = PerOp::all(parse(value)?),
    }
    Ok(())
}

/// A TOML string, quoted and escaped.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A TOML array of strings.
pub(crate) fn quote_list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(quote).collect();
    format!("[{}]", items.join(", "))
}

/// A per-direction value: once if all are alike, else as a table.
pub(crate) fn show_per_op<T: PartialEq>(value: &PerOp<T>, show: impl Fn(&T) -> String) -> String {
    if value.read == value.write && value.write == value.trim {
        return show(&value.read);
    }
    let (read, write, trim) = (show(&value.read), show(&value.write), show(&value.trim));
    format!("{{ read = {read}, write = {write}, trim = {trim} }}")
}
