//! Job files and the command line, from text to jobs.

use toml::de::{DeTable, DeValue};

use super::diagnostic::{COMMAND_LINE, Diagnostic, Diagnostics, Issue, Place, Source, nearest};
use super::resolve::{Level, resolve};
use super::spec::JobSpec;
use super::table::{explain_unknown, find};
use super::value::{Data, Value, entries, place};

/// As in fio.
const MAX_JOBS: usize = 4096;
/// A file with more mistakes than this is no job file at all.
const MAX_ISSUES: usize = 1000;

/// A job as it stands in a file.
struct JobText {
    file: usize,
    level: Level,
    header: Place,
}

/// Parses job files, given as path and text, in order, and puts the overrides of the command line
/// above every job's own options. Without any file, the overrides make one job.
///
/// # Errors
/// Every mistake in every file and on the command line.
pub fn parse(
    files: &[(String, String)],
    overrides: &[(String, String)],
) -> Result<Vec<JobSpec>, Diagnostics> {
    let mut sources: Vec<Source> =
        files.iter().map(|(name, text)| Source { name: name.clone(), text: text.clone() }).collect();
    let mut issues = Vec::new();
    let mut globals = Vec::new();
    let mut jobs = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        globals.push(read_file(index, source, &mut jobs, &mut issues));
    }
    let above = read_overrides(overrides, &mut sources, &mut issues);
    if files.is_empty() {
        let header = Place { source: 0, span: 0..0 };
        jobs.push(JobText { file: 0, level: Level::default(), header });
        globals.push(Level::default());
        if overrides.is_empty() {
            sources.push(Source { name: COMMAND_LINE.to_owned(), text: String::new() });
        }
    } else if jobs.is_empty() && issues.is_empty() {
        issues.push(no_job(&sources[0]));
    }
    if jobs.len() > MAX_JOBS {
        let message = format!("{} jobs: at most {MAX_JOBS} can run", jobs.len());
        issues.push(Issue::new(message).at(&jobs[MAX_JOBS].header));
        jobs.truncate(MAX_JOBS);
    }
    let mut specs = Vec::new();
    // What is wrong in `[global]` shows in every job; once is enough, and without jobs it shows too.
    for (file, global) in globals.iter().enumerate() {
        if !jobs.iter().any(|job| job.file == file) {
            let header = Place { source: file, span: 0..0 };
            let mut found = Vec::new();
            resolve(&[global], 0, &header, &mut found);
            issues.extend(found.into_iter().filter(|issue| issue.place.as_ref() != Some(&header)));
        }
    }
    for (index, job) in jobs.iter().enumerate() {
        let levels = [&globals[job.file], &job.level, &above];
        specs.extend(resolve(&levels, index, &job.header, &mut issues));
        if issues.len() > MAX_ISSUES {
            break;
        }
    }
    if issues.is_empty() { Ok(specs) } else { Err(report(issues, &sources)) }
}

/// Sorts the issues by place, each once.
fn report(mut issues: Vec<Issue>, sources: &[Source]) -> Diagnostics {
    issues.truncate(MAX_ISSUES);
    issues.sort_by_key(|issue| issue.place.as_ref().map(|place| (place.source, place.span.start)));
    let mut once: Vec<Issue> = Vec::new();
    for issue in issues {
        if !once.iter().rev().take_while(|seen| seen.place == issue.place).any(|seen| *seen == issue) {
            once.push(issue);
        }
    }
    Diagnostics::new(once.into_iter().map(|issue| Diagnostic::new(issue, sources)).collect())
}

fn no_job(source: &Source) -> Issue {
    let end = source.text.len();
    Issue::new("there is no job")
        .at(&Place { source: 0, span: end..end })
        .help("a job file has at least one `[[job]]`, for example:")
        .help("[[job]]  rw = \"randread\"  filename = \"/tmp/file\"  size = \"1g\"  (one option a line)")
}

/// Reads one file: gives its `[global]`, appends its jobs.
fn read_file(index: usize, source: &Source, jobs: &mut Vec<JobText>, issues: &mut Vec<Issue>) -> Level {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    let mut lines = Vec::new();
    for error in errors.iter().take(MAX_ISSUES) {
        let span = error.span().unwrap_or(0..0);
        let line = line_of(&source.text, span.start);
        // One slip often confuses the parser more than once.
        if !lines.contains(&line) {
            lines.push(line.clone());
            issues.push(syntax_issue(index, source, error.message(), span, line));
        }
    }
    let mut found = Vec::new();
    let mut global = Level::default();
    let ini = looks_like_ini(&source.text);
    for (name, key, value) in entries(document.get_ref(), index, 0) {
        if found.len() > MAX_ISSUES {
            break;
        }
        match (name.as_str(), value.data) {
            ("global", Data::Table(mut table)) => {
                refuse_name(&mut table, &mut found);
                global = Level::read(table, &mut found);
            }
            ("job", Data::List(items)) => {
                for item in items {
                    read_job(index, item, jobs, &mut found);
                }
            }
            (_, data) => found.push(misplaced(&name, &key, &data, ini)),
        }
    }
    // What the parser made of a line that it did not understand is not the user's mistake.
    let sound = |issue: &Issue| {
        let start = issue.place.as_ref().map_or(0, |place| place.span.start);
        !lines.contains(&line_of(&source.text, start))
    };
    if lines.is_empty() {
        issues.append(&mut found);
    } else {
        issues.extend(found.into_iter().filter(sound));
        if ini && let Some(first) = issues.iter_mut().find(|issue| on(issue, index)) {
            first.help.push(INI.to_owned());
        }
        // Values on broken lines must not be judged either.
        let broken = |level: &mut Level| {
            level.settings.retain(|setting| {
                !lines.contains(&line_of(&source.text, setting.key.span.start))
                    && !lines.contains(&line_of(&source.text, setting.value.place.span.start))
            });
        };
        broken(&mut global);
        jobs.iter_mut().filter(|job| job.file == index).for_each(|job| broken(&mut job.level));
    }
    global
}

const INI: &str = "this looks like a job file of fio; here job files are TOML: [[job]] with name = \"...\" for each \
                   job, quotes around texts, `= true` after flags, # before comments";

fn on(issue: &Issue, source: usize) -> bool {
    issue.place.as_ref().is_some_and(|place| place.source == source)
}

fn read_job(file: usize, item: Value, jobs: &mut Vec<JobText>, issues: &mut Vec<Issue>) {
    match item.data {
        Data::Table(table) => {
            let level = Level::read(table, issues);
            jobs.push(JobText { file, level, header: item.place });
        }
        _ => issues.push(item.wrong("a table of options").help("write each job as a `[[job]]`")),
    }
}

/// A name belongs to one job.
fn refuse_name(table: &mut Vec<(String, Place, Value)>, issues: &mut Vec<Issue>) {
    table.retain(|(name, key, _)| {
        if name == "name" {
            issues.push(
                Issue::new("`name` belongs to a job, not to all").at(key).help("move it into a `[[job]]`"),
            );
        }
        name != "name"
    });
}

/// Something at the top of the file that is neither `[global]` nor `[[job]]`.
fn misplaced(name: &str, key: &Place, data: &Data, ini: bool) -> Issue {
    let tables = matches!(data, Data::List(items) if matches!(items.first(), Some(Value { data: Data::Table(_), .. })));
    let issue = match (name, data) {
        ("job", Data::Table(_)) => {
            return Issue::new("a job has two pairs of brackets").at(key).help("write `[[job]]`");
        }
        ("global", _) if tables => {
            return Issue::new("there is one `[global]`, with one pair of brackets").at(key);
        }
        ("job" | "global", _) => {
            return Issue::new(format!("`{name}` must be a table of options"))
                .at(key)
                .help("write `[global]` or `[[job]]` on a line of its own, and the options below");
        }
        (_, Data::Table(_)) => Issue::new(format!("unknown table `[{name}]`")),
        _ if tables => Issue::new(format!("unknown table `[[{name}]]`")),
        _ if find(name).is_some() => {
            return Issue::new(format!("the option `{name}` stands outside of `[global]` and `[[job]]`"))
                .at(key)
                .help("put `[global]` above it to set it for all jobs, or move it into a `[[job]]`");
        }
        _ => {
            let (message, help) = explain_unknown(name);
            let mut issue = Issue::new(message).at(key).help("options stand in `[global]` or in a `[[job]]`");
            issue.help.extend(help);
            return issue;
        }
    };
    let issue = issue.at(key);
    match nearest(name, ["job", "global"]) {
        Some("global") => issue.help("did you mean `[global]`?"),
        Some(_) => issue.help("did you mean `[[job]]`?"),
        None if ini => {
            issue.help(format!("name the job so: [[job]] and below it name = \"{name}\"")).help(INI)
        }
        None => issue.help(format!(
            "there are `[global]` and `[[job]]`; to name a job, write [[job]] and below it name = \"{name}\""
        )),
    }
}

/// The bytes of the line that holds `at`.
fn line_of(text: &str, at: usize) -> std::ops::Range<usize> {
    let bytes = text.as_bytes();
    let at = at.min(bytes.len());
    let start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |before| before + 1);
    let end = bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |after| at + after);
    start..end
}

/// Whether an INI file of fio's was given: sections in single brackets, or `;` comments.
fn looks_like_ini(text: &str) -> bool {
    let mut sections = text.lines().map(str::trim).take(1000).filter(|line| {
        line.starts_with(';') || (line.starts_with('[') && !line.starts_with("[[") && *line != "[global]")
    });
    sections.next().is_some() && !text.contains("[[job]]")
}

/// A place where the text is no TOML; the usual slips get an answer of their own.
fn syntax_issue(
    index: usize,
    source: &Source,
    message: &str,
    span: std::ops::Range<usize>,
    line: std::ops::Range<usize>,
) -> Issue {
    let text = source.text[line.clone()].trim();
    let at = place(span, index, 0);
    let code = text.split('#').next().unwrap_or(text).trim();
    if code.starts_with(';') {
        return Issue::new("a comment begins with `#` in TOML").at(&at);
    }
    let bare = |word: &str| {
        !word.is_empty() && !word.starts_with(['"', '\'', '[', '{']) && !word.contains(char::is_control)
    };
    let known = |key: &str| find(key).is_some() || explain_unknown(key).0.contains("option of fio");
    if let Some((key, value)) = code.split_once('=') {
        let (key, value) = (key.trim(), value.trim());
        if value.is_empty() && known(key) {
            return Issue::new(format!("`{key}` has no value")).at(&at);
        }
        if bare(value) && known(key) && value.len() < 100 {
            let start = line.start + source.text[line.clone()].find(value).unwrap_or(0);
            let whole = Place { source: index, span: start..start + value.len() };
            return Issue::new(format!("`{key}`: a value with anything but digits needs quotes"))
                .at(&whole)
                .help(format!("write {key} = {}", super::value::quote(value)));
        }
    } else if let Some((_, option)) = find(code) {
        let value = if option.is_flag() { "true" } else { "..." };
        return Issue::new(format!("`{code}` has no value"))
            .at(&place(line, index, 0))
            .help(format!("write {code} = {value}"));
    }
    Issue::new(format!("not valid TOML: {message}")).at(&at)
}

/// Reads what was given as `--name=value`.
fn read_overrides(
    overrides: &[(String, String)],
    sources: &mut Vec<Source>,
    issues: &mut Vec<Issue>,
) -> Level {
    let mut list: Vec<(String, Place, Value)> = Vec::new();
    for (name, text) in overrides {
        let shown = if text.is_empty() { format!("--{name}") } else { format!("--{name}={text}") };
        let source = sources.len();
        let whole = 0..shown.len();
        let key = Place { source, span: 0..name.len() + 2 };
        let start = if text.is_empty() { 0 } else { name.len() + 3 };
        let spot = Place { source, span: start..whole.end };
        sources.push(Source { name: COMMAND_LINE.to_owned(), text: shown });
        let flag = find(name).is_some_and(|(_, option)| option.is_flag());
        if text.is_empty() && find(name).is_some() && !flag {
            issues.push(Issue::new(format!("`--{name}` needs a value")).at(&spot));
            continue;
        }
        let value = match override_value(text, source, start) {
            Ok(value) => value,
            Err(message) => {
                issues.push(Issue::new(message).at(&spot));
                continue;
            }
        };
        // As in fio, the last of several wins.
        list.retain(|(before, ..)| {
            before != name && find(before).map(|(index, _)| index) != find(name).map(|(index, _)| index)
                || find(name).is_none()
        });
        list.push((name.clone(), key, value));
    }
    Level::read(list, issues)
}

fn override_value(text: &str, source: usize, start: usize) -> Result<Value, String> {
    if text.starts_with(['[', '{']) {
        let (value, errors) = DeValue::parse_recoverable(text);
        return match errors.first() {
            None => Ok(Value::from_toml(&value, source, start)),
            Some(error) => Err(format!("not valid TOML: {}", error.message())),
        };
    }
    let span = start..start + text.len();
    Ok(Value { data: Data::Text(text.to_owned()), place: Place { source, span } })
}
