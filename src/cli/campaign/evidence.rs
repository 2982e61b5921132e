//! The directory of a campaign's evidence: what it was begun with, a line for each cycle that has
//! ended, and a directory for each cycle.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::base::host::output_file::{self, Start};

use super::device::Target;
use super::record::Cycle;

/// A copy of the file of the campaign.
const COPY: &str = "campaign.toml";
/// What the file does not say: the seed that was drawn, the devices, the options of the command line.
const BEGIN: &str = "campaign.json";
/// A line for each cycle that has ended.
const LINES: &str = "campaign.jsonl";

/// What a campaign was begun with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    pub seed: u64,
    pub targets: Vec<Target>,
    pub overrides: Vec<(String, String)>,
}

impl Begin {
    fn text(&self) -> String {
        let targets: Vec<Value> = self.targets.iter().map(Target::object).collect();
        let overrides: Vec<Value> = self.overrides.iter().map(|(name, value)| json!([name, value])).collect();
        // As text, because many programs keep numbers as fractions of 53 bits.
        let seed = self.seed.to_string();
        let version = env!("CARGO_PKG_VERSION");
        let object = json!({ "fio_spdk": version, "seed": seed, "targets": targets, "options": overrides });
        format!("{object:#}\n")
    }

    fn from_text(text: &str) -> Option<Begin> {
        let value: Value = serde_json::from_str(text).ok()?;
        let pair = |value: &Value| {
            let text = |at: usize| value.get(at)?.as_str().map(str::to_owned);
            Some((text(0)?, text(1)?))
        };
        Some(Begin {
            seed: value.get("seed")?.as_str()?.parse().ok()?,
            targets: value
                .get("targets")?
                .as_array()?
                .iter()
                .map(Target::from_object)
                .collect::<Option<_>>()?,
            overrides: value.get("options")?.as_array()?.iter().map(pair).collect::<Option<_>>()?,
        })
    }
}

/// The evidence of a campaign that is at work.
#[derive(Debug)]
pub struct Evidence {
    folder: PathBuf,
    lines: File,
    pub begin: Begin,
    /// The cycles that have ended, in order.
    pub done: Vec<Cycle>,
    /// Part of a cycle was done, and is put aside.
    pub unfinished: Option<PathBuf>,
}

impl Evidence {
    /// Opens the evidence in `folder`, or begins it with what `fresh` gives. `text` is the file of
    /// the campaign.
    pub fn open(
        folder: &Path,
        text: &str,
        overrides: &[(String, String)],
        fresh: impl FnOnce() -> Result<Begin, String>,
    ) -> Result<Evidence, String> {
        let wrong = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let (copy, begin_path, path) = (folder.join(COPY), folder.join(BEGIN), folder.join(LINES));
        if !begin_path.exists() {
            refuse_foreign(folder)?;
            let begin = fresh()?;
            fs::create_dir_all(folder).map_err(|why| wrong(folder, &why))?;
            store(&copy, text).map_err(|why| wrong(&copy, &why))?;
            // Last, because it says that the rest is there.
            store(&begin_path, &begin.text()).map_err(|why| wrong(&begin_path, &why))?;
        }
        // Children and commands may run elsewhere.
        let folder = &fs::canonicalize(folder).map_err(|why| wrong(folder, &why))?;
        let owner = fs::metadata(folder).map_err(|why| wrong(folder, &why))?.uid();
        if let Some(owner) = output_file::stranger(owner) {
            let why = format!("belongs to user {owner}: name a directory of your own by `evidence`");
            return Err(wrong(folder, &why));
        }
        let begun = fs::read(&copy).map_err(|why| wrong(&copy, &why))?;
        if begun != text.as_bytes() {
            return Err(changed("the file is not the one", &copy, folder));
        }
        let begin = fs::read_to_string(&begin_path).map_err(|why| wrong(&begin_path, &why))?;
        let begin = Begin::from_text(&begin)
            .ok_or_else(|| wrong(&begin_path, &"is damaged: move the directory away, to begin anew"))?;
        if begin.overrides != overrides {
            return Err(changed("the options on the command line are not those", &begin_path, folder));
        }
        let mut lines = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let lines = lines.as_mut().map_err(|why| wrong(&path, why))?;
        match lines.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(wrong(folder, &"another campaign is at work here, or a run that it has left"));
            }
            Err(TryLockError::Error(why)) => return Err(wrong(&path, &why)),
        }
        let done = read(lines).map_err(|why| wrong(&path, &why))?;
        sync_folder(folder).map_err(|why| wrong(folder, &why))?;
        let lines = lines.try_clone().map_err(|why| wrong(&path, &why))?;
        let mut evidence = Evidence { folder: folder.clone(), lines, begin, done, unfinished: None };
        evidence.put_aside()?;
        Ok(evidence)
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is locked as long as it is open anywhere.
    pub fn lock(&self) -> io::Result<File> {
        self.lines.try_clone()
    }

    /// The directory of a cycle.
    pub fn of(&self, cycle: u64) -> PathBuf {
        self.folder.join(format!("{cycle:06}"))
    }

    /// Whether part of the next cycle was done once, by this campaign or an earlier attempt at it.
    pub fn next_was_begun(&self) -> bool {
        aside(&self.of(self.next()), 1).exists()
    }

    /// The number of the next cycle.
    pub fn next(&self) -> u64 {
        self.done.len() as u64 + 1
    }

    /// Moves what there is of a cycle that has not ended out of the way.
    fn put_aside(&mut self) -> Result<(), String> {
        let cut_off = self.of(self.next());
        if !cut_off.exists() {
            return Ok(());
        }
        let free =
            (1..).map(|number| aside(&cut_off, number)).find(|name| !name.exists()).unwrap_or_default();
        fs::rename(&cut_off, &free).map_err(|why| format!("{}: {why}", cut_off.display()))?;
        self.unfinished = Some(free);
        Ok(())
    }

    /// Adds a cycle that has ended; it is on stable storage then.
    pub fn add(&mut self, cycle: Cycle) -> io::Result<()> {
        self.lines.write_all(cycle.line().as_bytes())?;
        self.lines.sync_all()?;
        sync_folder(&self.folder)?;
        self.done.push(cycle);
        Ok(())
    }
}

fn aside(folder: &Path, number: u64) -> PathBuf {
    PathBuf::from(format!("{}.unfinished-{number}", folder.display()))
}

fn changed(what: &str, begun: &Path, folder: &Path) -> String {
    format!(
        "{what} that the campaign in {} was begun with: to go on, make it as it was ({} tells); to begin anew, name \
         another directory by `evidence`, or move that one away",
        folder.display(),
        begun.display()
    )
}

/// Evidence goes into a directory of its own.
fn refuse_foreign(folder: &Path) -> Result<(), String> {
    let Ok(mut entries) = fs::read_dir(folder) else { return Ok(()) };
    // What a beginning that was cut off has left is ours.
    let foreign = entries.find_map(|entry| {
        let name = entry.ok()?.file_name();
        (name != COPY && name != format!("{COPY}.new").as_str() && name != format!("{BEGIN}.new").as_str())
            .then_some(name)
    });
    match foreign {
        Some(name) => Err(format!(
            "{} is no evidence of a campaign and holds {}: name another directory by `evidence`",
            folder.display(),
            name.display()
        )),
        None => Ok(()),
    }
}

/// All cycles that have ended; a last line that was torn is cut off.
fn read(file: &mut File) -> Result<Vec<Cycle>, String> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut text)).map_err(|why| why.to_string())?;
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    if whole < text.len() {
        file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(|why| why.to_string())?;
    }
    let text = String::from_utf8_lossy(&text[..whole]).into_owned();
    let mut done: Vec<Cycle> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let number = at as u64 + 1;
        match Cycle::from_line(line) {
            Some(cycle) if cycle.number == number => done.push(cycle),
            _ => return Err(format!("line {number} is not that of cycle {number}: the file is damaged")),
        }
    }
    Ok(done)
}

/// Either whole or not there.
fn store(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.to_owned().into_os_string();
    new.push(".new");
    let mut file = output_file::open(Path::new(&new), Start::Empty)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Names in a directory are durable after this.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin() -> Begin {
        let target = Target { path: "data".to_owned(), known: None };
        let overrides = vec![("bs".to_owned(), "8k".to_owned())];
        Begin { seed: u64::MAX, targets: vec![target], overrides }
    }

    fn open(folder: &Path, text: &str) -> Result<Evidence, String> {
        Evidence::open(folder, text, &begin().overrides, || Ok(begin()))
    }

    fn cycle(number: u64) -> Cycle {
        Cycle { number, ..Cycle::default() }
    }

    #[test]
    fn a_campaign_goes_on_behind_the_cycles_that_have_ended() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/evidence");
        let mut evidence = open(&folder, "text").unwrap();
        assert_eq!((evidence.next(), &evidence.begin), (1, &begin()));
        evidence.add(cycle(1)).unwrap();
        evidence.add(cycle(2)).unwrap();
        drop(evidence);
        let fresh = || panic!("it was begun");
        let evidence = Evidence::open(&folder, "text", &begin().overrides, fresh).unwrap();
        assert_eq!(evidence.done, [cycle(1), cycle(2)]);
        assert_eq!(evidence.next(), 3);
        assert_eq!(evidence.unfinished, None);
    }

    #[test]
    fn a_last_line_that_was_torn_is_forgotten_wherever_it_was_torn() {
        let root = tempfile::tempdir().unwrap();
        let line = cycle(2).line();
        for kept in 0..line.len() {
            let folder = root.path().join(kept.to_string());
            open(&folder, "text").unwrap().add(cycle(1)).unwrap();
            let path = folder.join(LINES);
            let mut text = fs::read_to_string(&path).unwrap();
            text.push_str(&line[..kept]);
            fs::write(&path, text).unwrap();
            let mut evidence = open(&folder, "text").unwrap();
            assert_eq!(evidence.done, [cycle(1)]);
            evidence.add(cycle(2)).unwrap();
            drop(evidence);
            assert_eq!(open(&folder, "text").unwrap().done.len(), 2);
        }
    }

    #[test]
    fn a_line_that_is_damaged_inside_is_refused() {
        let root = tempfile::tempdir().unwrap();
        open(root.path(), "text").unwrap().add(cycle(1)).unwrap();
        let path = root.path().join(LINES);
        for text in [format!("{{}}\n{}", cycle(2).line()), cycle(2).line(), "\n".to_owned()] {
            fs::write(&path, text).unwrap();
            assert!(open(root.path(), "text").unwrap_err().contains("damaged"));
        }
    }

    #[test]
    fn what_is_left_of_a_cycle_is_put_aside_under_a_name_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        open(root.path(), "text").unwrap().add(cycle(1)).unwrap();
        for number in 1..=3 {
            fs::create_dir(root.path().join("000002")).unwrap();
            let evidence = open(root.path(), "text").unwrap();
            let aside = root.path().join(format!("000002.unfinished-{number}"));
            assert_eq!(evidence.unfinished, Some(fs::canonicalize(&aside).unwrap()));
            assert!(!evidence.of(2).exists() && aside.exists());
        }
        let evidence = open(root.path(), "text").unwrap();
        assert!(evidence.unfinished.is_none() && evidence.next_was_begun());
    }

    #[test]
    fn another_file_or_other_options_are_refused_with_a_way_out() {
        let root = tempfile::tempdir().unwrap();
        drop(open(root.path(), "text").unwrap());
        let why = open(root.path(), "another text").unwrap_err();
        assert!(why.contains("campaign.toml") && why.contains("`evidence`"), "{why}");
        let why = Evidence::open(root.path(), "text", &[], || Ok(begin())).unwrap_err();
        assert!(why.contains("command line") && why.contains("campaign.json"), "{why}");
        open(root.path(), "text").unwrap();
    }

    #[test]
    fn two_campaigns_do_not_share_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let first = open(root.path(), "text").unwrap();
        assert!(open(root.path(), "text").unwrap_err().contains("another campaign"));
        drop(first);
        open(root.path(), "text").unwrap();
    }

    #[test]
    fn a_directory_of_other_things_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("letters"), "").unwrap();
        assert!(open(root.path(), "text").unwrap_err().contains("letters"));
        // What was being begun when the machine died is not that.
        fs::remove_file(root.path().join("letters")).unwrap();
        fs::write(root.path().join("campaign.toml"), "half").unwrap();
        open(root.path(), "text").unwrap();
    }
}
