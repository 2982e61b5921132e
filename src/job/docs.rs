//! The reference page and the help of the command line, both from the table.

use super::table::{OptionDef, refused, table};

const INTRODUCTION: &str = include_str!("reference.md");

/// The page `docs/job-file.md`.
#[must_use]
pub fn reference() -> String {
    let mut out = INTRODUCTION.to_owned();
    let mut section = "";
    for option in table() {
        if option.section != section {
            section = option.section;
            out.push_str(&format!("\n### {section}\n"));
        }
        out.push_str(&format!("\n#### `{}`\n\n", option.name));
        if !option.aliases.is_empty() {
            let names: Vec<String> = option.aliases.iter().map(|name| format!("`{name}`")).collect();
            out.push_str(&format!("- Also: {}\n", names.join(", ")));
        }
        out.push_str(&format!("- Value: {}\n", option.form()));
        if !option.default.is_empty() {
            out.push_str(&format!("- Default: {}\n", default_text(option)));
        }
        out.push_str(&format!("\n{}\n", wrap(option.doc, 100)));
    }
    out.push_str("\n## Options that are refused\n\n| option | why |\n|---|---|\n");
    for (name, why) in refused() {
        out.push_str(&format!("| `{name}` | {} |\n", why.replace('|', "\\|")));
    }
    out
}

/// A default that is a value is set as code, words are not.
fn default_text(option: &OptionDef) -> String {
    let is_value = option.default.parse::<f64>().is_ok()
        || option.default.starts_with('"')
        || matches!(option.default, "true" | "false");
    if is_value { format!("`{}`", option.default) } else { option.default.to_owned() }
}

/// The options in short, for the help of the command line: name, form, default, meaning.
#[must_use]
pub fn help() -> String {
    let mut out = String::new();
    let mut section = "";
    for option in table() {
        if option.section != section {
            section = option.section;
            out.push_str(&format!("\n{section}:\n"));
        }
        let value = if option.is_flag() { "" } else { "=<value>" };
        out.push_str(&format!("  --{}{value}\n", option.name));
        let first = option.doc.split_inclusive(". ").next().unwrap_or(option.doc);
        let default = match option.default {
            "" => String::new(),
            default => format!("; default {}", default.trim_matches(['"', '`'])),
        };
        let text = format!("{} [{}{default}]", first.trim_end(), option.form()).replace('`', "");
        for line in wrap(&text, 88).lines() {
            out.push_str(&format!("      {line}\n"));
        }
    }
    out
}

/// All that is known about one option, for a person.
///
/// # Errors
/// If there is no such option: what may help.
pub fn explain(name: &str) -> Result<String, String> {
    let Some((_, option)) = super::table::find(name) else {
        let (message, help) = super::table::explain_unknown(name);
        return Err(help.map_or(message.clone(), |help| format!("{message}: {help}")));
    };
    let mut out = format!("{} = <{}>\n", option.name, option.form());
    if !option.aliases.is_empty() {
        out.push_str(&format!("also called: {}\n", option.aliases.join(", ")));
    }
    if !option.default.is_empty() {
        out.push_str(&format!("default: {}\n", option.default.replace('`', "")));
    }
    out.push_str(&format!("\n{}\n", wrap(&option.doc.replace('`', ""), 88)));
    Ok(out)
}

fn wrap(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}
