//! A disk in memory that forgets what was not synced, and stops at any step.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::*;
use crate::base::verify::RunId;
use crate::verify::snapshot::Cause;

/// More than any snapshot here takes, and less.
const SPACES: [u64; 3] = [0, 64, 8192];

fn snapshot(number: u64, jobs: usize) -> Snapshot {
    let job = crate::verify::snapshot::JobState {
        stage: 0,
        name: format!("job {number}"),
        options: vec![("bs".to_owned(), "4k".to_owned())],
        seed: number,
        writes_are_durable: false,
        targets: Vec::new(),
        workers: Vec::new(),
    };
    Snapshot {
        run: RunId(u128::from(number)),
        taken_unix_ns: number,
        cause: Cause::Checkpoint,
        tool: "test".to_owned(),
        jobs: vec![job; jobs],
        unverified: Vec::new(),
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    /// What was there at the last sync.
    safe: Vec<u8>,
}

/// Names and their inodes.
type Names = BTreeMap<PathBuf, usize>;

#[derive(Clone, Debug, Default)]
struct Model {
    inodes: Vec<Inode>,
    /// The directory at its last sync, and as it was after each change since.
    names: Vec<Names>,
    steps: usize,
    /// This step, counted from 0, returns an error (once), or is the last that is done.
    fails: Option<usize>,
    last: Option<usize>,
    /// Planted mistakes.
    forgets_sync: bool,
    forgets_sync_dir: bool,
}

impl Model {
    fn names(&self) -> Names {
        self.names.last().cloned().unwrap_or_default()
    }

    fn change(&mut self, change: impl FnOnce(&mut Names)) {
        let mut names = self.names();
        change(&mut names);
        self.names.push(names);
    }

    /// All that may stand at `path` when the power fails now.
    fn after_a_cut(&self, path: &Path) -> Vec<Option<Vec<u8>>> {
        let mut all = Vec::new();
        for names in &self.names {
            let Some(&inode) = names.get(path) else {
                all.push(None);
                continue;
            };
            let Inode { now, safe } = &self.inodes[inode];
            all.extend([Some(now.clone()), Some(safe.clone())]);
            // The length first, or the bytes first, or half of them.
            if now != safe {
                let half = now.len() / 2;
                let mut mixed = vec![0; now.len()];
                all.push(Some(mixed.clone()));
                mixed[..half].copy_from_slice(&now[..half]);
                all.extend([Some(mixed), Some(now[..half].to_vec())]);
            }
        }
        all
    }
}

#[derive(Clone, Debug, Default)]
struct ModelDisk(Rc<RefCell<Model>>);

impl ModelDisk {
    /// Does a step, or not.
    fn step(&self, step: impl FnOnce(&mut Model)) -> io::Result<()> {
        let mut model = self.0.borrow_mut();
        let number = model.steps;
        model.steps += 1;
        if model.fails == Some(number) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        if model.last.is_none_or(|last| number <= last) {
            step(&mut model);
        }
        Ok(())
    }
}

impl Disk for ModelDisk {
    type File = usize;

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        let mut inode = 0;
        self.step(|model| {
            inode = model.inodes.len();
            model.inodes.push(Inode::default());
            model.change(|names| {
                names.insert(path.to_owned(), inode);
            });
        })?;
        Ok(inode)
    }

    fn allocate(&mut self, file: &mut usize, bytes: u64) -> io::Result<()> {
        self.set_len(file, bytes)
    }

    fn write_at(&mut self, file: &mut usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        assert_eq!(offset, 0);
        self.step(|model| {
            let now = &mut model.inodes[*file].now;
            now.resize(now.len().max(bytes.len()), 0);
            now[..bytes.len()].copy_from_slice(bytes);
        })
    }

    fn set_len(&mut self, file: &mut usize, bytes: u64) -> io::Result<()> {
        self.step(|model| model.inodes[*file].now.resize(usize::try_from(bytes).unwrap(), 0))
    }

    fn sync(&mut self, file: &mut usize) -> io::Result<()> {
        self.step(|model| {
            if !model.forgets_sync {
                model.inodes[*file].safe = model.inodes[*file].now.clone();
            }
        })
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|model| {
            model.change(|names| {
                let inode = names.remove(from).expect("what is renamed is there");
                names.insert(to.to_owned(), inode);
            });
        })
    }

    fn sync_dir(&mut self, _: &Path) -> io::Result<()> {
        self.step(|model| {
            if !model.forgets_sync_dir {
                model.names.drain(..model.names.len().saturating_sub(1));
            }
        })
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.step(|model| {
            model.change(|names| {
                names.remove(path);
            });
        })
    }
}

const PATH: &str = "/state/run.state";

/// A disk with an old snapshot, or none, and a keeper of the file.
fn bench(old: Option<&Snapshot>, bytes: u64) -> (ModelDisk, Keeper<ModelDisk>) {
    let disk = ModelDisk::default();
    disk.0.borrow_mut().names.push(Names::new());
    let mut keeper = Keeper::new(disk.clone(), Path::new(PATH), bytes);
    if let Some(old) = old {
        keeper.store(&old.encode()).unwrap();
    }
    disk.0.borrow_mut().steps = 0;
    (disk, keeper)
}

/// What may be read after a cut; `Err` for what is neither whole nor absent.
fn readable(disk: &ModelDisk) -> Vec<Result<Option<Snapshot>, String>> {
    let outcomes = disk.0.borrow().after_a_cut(Path::new(PATH));
    let read = |bytes: Vec<u8>| Snapshot::decode(&bytes).map_err(|why| why.to_string());
    outcomes.into_iter().map(|bytes| bytes.map(read).transpose()).collect()
}

/// Stores `new` over `old` with a cut behind every step; gives what is wrong, if anything is.
fn wrong_after_cuts(old: Option<&Snapshot>, bytes: u64, forgets: impl Fn(&mut Model)) -> Vec<String> {
    let new = snapshot(2, 3);
    let mut wrong = Vec::new();
    for last in 0.. {
        let (disk, mut keeper) = bench(old, bytes);
        forgets(&mut disk.0.borrow_mut());
        disk.0.borrow_mut().last = Some(last);
        keeper.prepare().unwrap();
        keeper.store(&new.encode()).unwrap();
        let steps = disk.0.borrow().steps;
        for outcome in readable(&disk) {
            let fine =
                outcome.as_ref().is_ok_and(|found| found.as_ref() == old || found.as_ref() == Some(&new));
            // When the store has come back, only the new one may be there.
            if !fine || (last + 1 >= steps && outcome != Ok(Some(new.clone()))) {
                wrong.push(format!("after step {last}: {outcome:?}"));
            }
        }
        if last + 1 >= steps {
            break;
        }
    }
    wrong
}

#[test]
fn a_cut_after_any_step_leaves_the_old_snapshot_or_the_new_one() {
    let (long, short) = (snapshot(1, 9), snapshot(1, 1));
    for bytes in SPACES {
        for old in [None, Some(&long), Some(&short)] {
            assert_eq!(wrong_after_cuts(old, bytes, |_| ()), Vec::<String>::new());
        }
    }
}

#[test]
fn the_trial_finds_a_sync_that_is_missing() {
    let old = snapshot(1, 9);
    assert!(!wrong_after_cuts(Some(&old), 64, |model| model.forgets_sync = true).is_empty());
    assert!(!wrong_after_cuts(Some(&old), 64, |model| model.forgets_sync_dir = true).is_empty());
}

#[test]
fn a_step_that_fails_leaves_the_old_snapshot_or_the_new_one_and_can_be_tried_again() {
    let (old, new, newest) = (snapshot(1, 9), snapshot(2, 3), snapshot(3, 2));
    for bytes in SPACES {
        for fails in 0.. {
            let (disk, mut keeper) = bench(Some(&old), bytes);
            disk.0.borrow_mut().fails = Some(fails);
            let failure = keeper.prepare().and_then(|()| keeper.store(&new.encode()));
            let Err(failure) = failure else {
                assert_eq!(disk.0.borrow().steps, fails, "every step was let fail");
                break;
            };
            assert!(failure.to_string().starts_with("cannot "), "{failure}");
            assert_eq!(failure.kind(), io::ErrorKind::StorageFull);
            for outcome in readable(&disk) {
                assert!(outcome == Ok(Some(old.clone())) || outcome == Ok(Some(new.clone())), "{outcome:?}");
            }
            assert!(keeper.reserved.is_none(), "what failed is not used again");
            keeper.store(&newest.encode()).unwrap();
            assert!(readable(&disk).iter().all(|found| *found == Ok(Some(newest.clone()))));
            drop(keeper);
            assert_eq!(disk.0.borrow().names().into_keys().collect::<Vec<_>>(), [Path::new(PATH)]);
        }
    }
}

#[test]
fn one_store_after_another_leaves_the_last_at_its_length() {
    let lab = tempfile::tempdir().unwrap();
    let path = lab.path().join("run.state");
    let mut file = StateFile::reserve(&path, 4096).unwrap();
    assert_eq!(std::fs::metadata(lab.path().join("run.state.new")).unwrap().len(), 4096);
    assert!(!path.exists(), "nothing is there before the first store");
    for (number, jobs) in [(1, 1), (2, 200), (3, 0), (4, 2)] {
        let stored = snapshot(number, jobs);
        file.store(&stored.encode()).unwrap();
        assert_eq!(load(&path).map(|loaded| loaded.snapshot), Ok(stored));
        if number % 2 == 0 {
            file.prepare().unwrap();
            file.prepare().unwrap();
        }
    }
    drop(file);
    assert_eq!(std::fs::read_dir(lab.path()).unwrap().count(), 1, "what was beside it is gone");
}

#[test]
fn space_is_taken_before() {
    use std::os::unix::fs::MetadataExt;
    let lab = tempfile::tempdir().unwrap();
    let _file = StateFile::reserve(&lab.path().join("s"), 1 << 20).unwrap();
    let taken = std::fs::metadata(lab.path().join("s.new")).unwrap().blocks() * 512;
    assert!(taken >= 1 << 20, "{taken} bytes");
    let why = StateFile::reserve(&lab.path().join("t"), 1 << 60).unwrap_err();
    assert!(why.contains("cannot be kept at") && why.contains("cannot take its space"), "{why}");
    assert!(!lab.path().join("t.new").exists(), "{why}");
}

#[test]
fn a_place_that_does_not_do_is_refused_with_its_path() {
    let lab = tempfile::tempdir().unwrap();
    let refused = |name: &str| {
        let path = lab.path().join(name);
        let why = StateFile::reserve(&path, 10).unwrap_err();
        assert!(why.contains(&directory_of(&path).display().to_string()), "{why}");
        why
    };
    assert!(refused("missing/run.state").contains("is not there"));
    std::fs::create_dir_all(lab.path().join("dir")).unwrap();
    assert!(refused("dir").contains("is a directory"));
    std::fs::create_dir_all(lab.path().join("s.new")).unwrap();
    assert!(refused("s").contains("no file"));
    // Nobody, root included, can make a file there.
    assert!(StateFile::reserve(Path::new("/proc/run.state"), 10).unwrap_err().contains("cannot create"));
}

#[test]
fn what_a_dead_run_left_behind_goes_and_a_living_run_is_not_disturbed() {
    let lab = tempfile::tempdir().unwrap();
    let path = lab.path().join("s");
    std::fs::write(lab.path().join("s.new"), "left behind").unwrap();
    let mut file = StateFile::reserve(&path, 100).unwrap();
    let why = StateFile::reserve(&path, 100).unwrap_err();
    assert!(why.contains("another run keeps its state there"), "{why}");
    file.store(&snapshot(1, 1).encode()).unwrap();
    assert_eq!(load(&path).map(|loaded| loaded.snapshot), Ok(snapshot(1, 1)));
}

#[test]
fn what_cannot_be_loaded_is_told_with_its_path() {
    let lab = tempfile::tempdir().unwrap();
    let told = |name: &str| {
        let path = lab.path().join(name);
        let why = load(&path).unwrap_err();
        assert!(why.starts_with(&path.display().to_string()), "{why}");
        why
    };
    told("missing");
    assert!(told(".").contains("not a snapshot"));
    std::fs::write(lab.path().join("job"), "[[job]]").unwrap();
    assert!(told("job").contains("no snapshot"));
    std::fs::write(lab.path().join("cut"), &snapshot(1, 1).encode()[..40]).unwrap();
    assert!(told("cut").contains("damaged or cut short"));
    let why = load(Path::new("/dev/null")).unwrap_err();
    assert!(why.starts_with("/dev/null: not a snapshot"), "{why}");
}

#[test]
fn a_directory_beside_a_target_file_shares_its_device_and_does_not_lie_on_it() {
    let lab = tempfile::tempdir().unwrap();
    let target = lab.path().join("data");
    std::fs::write(&target, "data").unwrap();
    for target in [target, lab.path().join("will be made")] {
        let found = lies_on(lab.path(), &[target]).unwrap();
        assert!(!matches!(found, Some(Overlap::OnTarget(_))), "{found:?}");
    }
    assert_eq!(lies_on(lab.path(), &["/dev/null".into(), "/no/such/place".into()]), Ok(None));
    assert!(lies_on(Path::new("/no/such/place"), &[]).unwrap_err().contains("/no/such/place"));
}
