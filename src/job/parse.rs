//! Job files and the command line, from text to jobs.

use std::collections::HashMap;

use toml::de::DeValue;

use super::campaign::{self, CampaignSpec};
use super::checks;
use super::diagnostic::{COMMAND_LINE, Diagnostic, Diagnostics, Issue, Issues, Place, Source, nearest};
use super::resolve::{Level, resolve};
use super::spec::JobSpec;
use super::syntax;
use super::table::{explain_unknown, find};
use super::value::{Data, Value, place};

/// As in fio.
const MAX_JOBS: usize = 4096;
/// What the options of all jobs may take together, in bytes, where each job has its own copy of what `[global]` and the
/// command line set.
const MOST_OPTIONS_BYTES: usize = 64 << 20;

/// A job as it stands in a file.
struct JobText {
    file: usize,
    level: Level,
    header: Place,
}

/// What a file says besides its jobs.
#[derive(Default)]
struct FileText {
    global: Level,
    /// `[campaign]`: where it stands, and what it says if nothing is wrong with it.
    campaign: Option<(Place, Option<CampaignSpec>)>,
    /// Whether all of the file could be read.
    complete: bool,
    /// Lines that may have been misunderstood.
    broken: Vec<std::ops::Range<usize>>,
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
    read(files, overrides, false).map(|(jobs, _)| jobs)
}

/// Parses the file of a campaign: a job file with a table `[campaign]`.
///
/// # Errors
/// Every mistake in it and on the command line.
pub fn parse_campaign(
    file: &(String, String),
    overrides: &[(String, String)],
) -> Result<(Vec<JobSpec>, CampaignSpec), Diagnostics> {
    let (jobs, campaign) = read(std::slice::from_ref(file), overrides, true)?;
    match campaign {
        Some(campaign) => Ok((jobs, campaign)),
        // Without the table there was an issue.
        None => Err(Diagnostics::new(vec![Diagnostic::of_file(&file.0, NO_CAMPAIGN.to_owned(), None)])),
    }
}

const NO_CAMPAIGN: &str = "there is no table `[campaign]` in this file";

fn read(
    files: &[(String, String)],
    overrides: &[(String, String)],
    wanted: bool,
) -> Result<(Vec<JobSpec>, Option<CampaignSpec>), Diagnostics> {
    let mut sources: Vec<Source> =
        files.iter().map(|(name, text)| Source { name: name.clone(), text: text.clone() }).collect();
    let mut issues = Issues::default();
    let mut texts = Vec::new();
    let mut jobs = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        texts.push(read_file(index, source, &mut jobs, &mut issues));
    }
    let above = read_overrides(overrides, &mut sources, &mut issues);
    if files.is_empty() {
        let header = Place { source: 0, span: 0..0 };
        jobs.push(JobText { file: 0, level: Level::default(), header });
        texts.push(FileText { complete: true, ..FileText::default() });
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
    if let Some(issue) = too_much_text(&jobs, &texts, &above) {
        issues.push(issue);
        jobs.truncate(1);
    }
    let mut specs = Vec::new();
    let mut judged = Issues::default();
    // What is wrong in `[global]` shows in every job; once is enough, and without jobs it shows too.
    for (file, text) in texts.iter().enumerate() {
        if !jobs.iter().any(|job| job.file == file) {
            let header = Place { source: file, span: 0..0 };
            resolve(&[&text.global], 0, &header, false, &mut judged);
        }
    }
    for (index, job) in jobs.iter().enumerate() {
        let text = &texts[job.file];
        let levels = [&text.global, &job.level, &above];
        if judged.stops() {
            break;
        }
        specs.extend(resolve(&levels, index, &job.header, text.complete, &mut judged));
    }
    if specs.len() == jobs.len() && judged.is_empty() && texts.iter().all(|text| text.complete) {
        let headers: Vec<&Place> = jobs.iter().map(|job| &job.header).collect();
        checks::check_run(&specs, &headers, &mut judged);
    }
    let campaign = judge_campaign(&mut texts, &jobs, &above, &specs, wanted, &mut judged);
    // What the parser made of a line that it did not understand is not the user's mistake.
    let broken = |place: &Place| texts.get(place.source).is_some_and(|text| on_lines(&text.broken, place));
    judged.retain(|issue| !issue.place.as_ref().is_some_and(broken));
    issues.append(judged);
    issues.into_diagnostics(&sources).map_or(Ok((specs, campaign)), Err)
}

/// Refuses many jobs that each would have a copy of long texts: a short file could ask for all of the memory.
fn too_much_text(jobs: &[JobText], texts: &[FileText], above: &Level) -> Option<Issue> {
    let above = above.bytes();
    let globals: Vec<usize> = texts.iter().map(|text| text.global.bytes()).collect();
    let mut total = 0_usize;
    let over = jobs.iter().find(|job| {
        total =
            total.saturating_add(globals[job.file]).saturating_add(job.level.bytes()).saturating_add(above);
        total > MOST_OPTIONS_BYTES
    })?;
    let most = MOST_OPTIONS_BYTES >> 20;
    let message = format!("the options of {} jobs have more than {most} MiB of text together", jobs.len());
    let help = "each job has its own copy of what `[global]` and the command line set: write fewer jobs or shorter values";
    Some(Issue::new(message).at(&over.header).help(help))
}

/// Sees to it that there is a campaign where one is wanted, and nowhere else.
fn judge_campaign(
    texts: &mut [FileText],
    jobs: &[JobText],
    above: &Level,
    specs: &[JobSpec],
    wanted: bool,
    issues: &mut Issues,
) -> Option<CampaignSpec> {
    let whole = texts.iter().all(|text| text.complete);
    for text in texts {
        match (text.campaign.take(), wanted) {
            (Some((header, _)), false) => {
                let issue = Issue::new("this is the file of a campaign of power cuts").at(&header);
                issues.push(issue.help("run it so: fio-spdk campaign FILE.toml"));
            }
            (None, true) if text.complete => {
                let issue = Issue::new(NO_CAMPAIGN).at(&Place { source: 0, span: 0..0 });
                issues.push(issue.help(
                    "a campaign of power cuts has one, with `cycles`, `window` and `power_off`; without it, run \
                     fio-spdk FILE.toml",
                ));
            }
            (Some((header, spec)), true) => {
                let levels = jobs.iter().map(|job| &job.level).chain([&text.global, above]);
                levels.for_each(|level| campaign::refuse_own(level, issues));
                if let Some(spec) = &spec
                    && whole
                    && issues.is_empty()
                    && specs.len() == jobs.len()
                {
                    campaign::check(spec, specs, &header, issues);
                }
                return spec;
            }
            (None, _) => {}
        }
    }
    None
}

fn no_job(source: &Source) -> Issue {
    let end = source.text.len();
    Issue::new("there is no job")
        .at(&Place { source: 0, span: end..end })
        .help("a job file has at least one `[[job]]`, for example:")
        .help("[[job]]  rw = \"randread\"  filename = \"/tmp/file\"  size = \"1g\"  (one option a line)")
}

/// Reads one file: gives its `[global]`, appends its jobs.
fn read_file(index: usize, source: &Source, jobs: &mut Vec<JobText>, issues: &mut Issues) -> FileText {
    let document = syntax::read(index, &source.text);
    let ini = !document.issues.is_empty() && looks_like_ini(&source.text);
    let complete = document.issues.is_empty();
    let before = issues.kept().len();
    issues.append(document.issues);
    // After a line that it did not understand, the parser may be lost among the tables.
    let lost = document.broken.first().map_or(usize::MAX, |line| line.start);
    let mut found = Issues::default();
    let mut global = Level::default();
    let mut campaign = None;
    for (name, key, value) in document.entries {
        if found.stops() {
            break;
        }
        match (name.as_str(), value.data) {
            ("global", Data::Table(mut table)) => {
                refuse_name(&mut table, &mut found);
                global = Level::read(table, &mut found);
            }
            ("job", Data::List(items)) => {
                for item in items {
                    if found.stops() {
                        break;
                    }
                    read_job(index, item, jobs, &mut found);
                }
            }
            ("campaign", Data::Table(table)) => {
                campaign = Some((key.clone(), campaign::read(&key, table, &mut found)));
            }
            (_, data) if key.span.start < lost => found.push(misplaced(&name, &key, &data, ini)),
            _ => {}
        }
    }
    found.retain(|issue| !issue.place.as_ref().is_some_and(|place| on_lines(&document.broken, place)));
    issues.append(found);
    if ini && let Some(first) = issues.kept_mut().get_mut(before) {
        first.help.push(INI.to_owned());
    }
    FileText { global, campaign, complete, broken: document.broken }
}

const INI: &str = "this looks like a job file of fio; here job files are TOML: [[job]] with name = \"...\" for each \
                   job, quotes around texts, `= true` after flags, # before comments";

fn read_job(file: usize, item: Value, jobs: &mut Vec<JobText>, issues: &mut Issues) {
    match item.data {
        Data::Table(table) => {
            let level = Level::read(table, issues);
            jobs.push(JobText { file, level, header: item.place });
        }
        _ => issues.push(item.wrong("a table of options").help("write each job as a `[[job]]`")),
    }
}

/// Whether a place begins on one of these lines, given in order.
fn on_lines(lines: &[std::ops::Range<usize>], place: &Place) -> bool {
    let at = place.span.start;
    let after = lines.partition_point(|line| line.start <= at);
    after > 0 && at <= lines[after - 1].end
}

/// A name belongs to one job.
fn refuse_name(table: &mut Vec<(String, Place, Value)>, issues: &mut Issues) {
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
        ("campaign", _) => {
            return Issue::new("a campaign is a table")
                .at(key)
                .help("write `[campaign]`, with one pair of brackets, on a line of its own");
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
    match nearest(name, ["job", "global", "campaign"]) {
        Some(table @ ("global" | "campaign")) => issue.help(format!("did you mean `[{table}]`?")),
        Some(_) => issue.help(format!("did you mean `[[job]]`? A job is named below it: name = \"{name}\"")),
        None if ini => {
            issue.help(format!("name the job so: [[job]] and below it name = \"{name}\"")).help(INI)
        }
        None => issue.help(format!(
            "there are `[global]` and `[[job]]`; to name a job, write [[job]] and below it name = \"{name}\""
        )),
    }
}

/// Whether an INI file of fio's was given: sections in single brackets, or `;` comments.
fn looks_like_ini(text: &str) -> bool {
    let mut sections = text.lines().map(str::trim).take(1000).filter(|line| {
        line.starts_with(';') || (line.starts_with('[') && !line.starts_with("[[") && *line != "[global]")
    });
    sections.next().is_some() && !text.contains("[[job]]")
}

/// Reads what was given as `--name=value`.
fn read_overrides(overrides: &[(String, String)], sources: &mut Vec<Source>, issues: &mut Issues) -> Level {
    let mut list: Vec<(Option<usize>, (String, Place, Value))> = Vec::new();
    let mut last = HashMap::new();
    for (name, text) in overrides {
        let shown = if text.is_empty() { format!("--{name}") } else { format!("--{name}={text}") };
        let source = sources.len();
        let whole = 0..shown.len();
        let key = Place { source, span: 0..name.len() + 2 };
        let start = if text.is_empty() { 0 } else { name.len() + 3 };
        let spot = Place { source, span: start..whole.end };
        sources.push(Source { name: COMMAND_LINE.to_owned(), text: shown });
        let option = find(name);
        if text.is_empty() && option.is_some_and(|(_, option)| !option.is_flag()) {
            issues.push(Issue::new(format!("`--{name}` needs a value")).at(&spot));
            continue;
        }
        let value = match override_value(text, source, start) {
            Ok(value) => value,
            Err(issue) => {
                issues.push(issue);
                continue;
            }
        };
        if let Some((index, _)) = option {
            last.insert(index, list.len());
        }
        list.push((option.map(|(index, _)| index), (name.clone(), key, value)));
    }
    // As in fio, the last of several wins.
    let wins = |at: usize, option: Option<usize>| option.is_none_or(|option| last.get(&option) == Some(&at));
    let list = list.into_iter().enumerate().filter(|(at, (option, _))| wins(*at, *option));
    Level::read(list.map(|(_, (_, entry))| entry).collect(), issues)
}

fn override_value(text: &str, source: usize, start: usize) -> Result<Value, Issue> {
    if text.starts_with(['[', '{']) {
        let (value, errors) = DeValue::parse_recoverable(text);
        return match errors.first() {
            None => Ok(Value::from_toml(&value, source, start)),
            Some(error) => {
                let span = error.span().unwrap_or(0..text.len());
                let message = format!("not valid TOML: {}", error.message());
                Err(Issue::new(message).at(&place(span, source, start)))
            }
        };
    }
    let span = start..start + text.len();
    Ok(Value { data: Data::Text(text.to_owned()), place: Place { source, span } })
}
