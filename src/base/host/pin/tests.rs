use std::io::{Read, Write};
use std::os::unix::fs::symlink;

use super::*;
use crate::base::host::target_lock::LockMode;

fn content(file: &mut File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_repointed_link_does_not_change_what_is_opened() {
    let lab = tempfile::tempdir().unwrap();
    let (one, other, link) = (lab.path().join("one"), lab.path().join("other"), lab.path().join("link"));
    fs::write(&one, "one").unwrap();
    fs::write(&other, "other").unwrap();
    symlink(&one, &link).unwrap();
    let pin = Pins::default().pin(&link);
    pin.check().unwrap();
    fs::remove_file(&link).unwrap();
    symlink(&other, &link).unwrap();
    let mut file = pin.existing().unwrap().open(OFlags::RDWR).unwrap();
    assert_eq!(content(&mut file), "one");
    let replaced = pin.check().unwrap_err().sentence;
    for name in [&one, &other, &link] {
        assert!(replaced.contains(name.to_str().unwrap()), "{replaced}");
    }
}

#[test]
fn without_proc_what_a_path_opens_is_compared() {
    let lab = tempfile::tempdir().unwrap();
    let (one, two) = (lab.path().join("one"), lab.path().join("two"));
    fs::write(&one, "one").unwrap();
    fs::write(&two, "two").unwrap();
    let file = PinnedFile { way: one.clone(), ..PinnedFile::at(&one).unwrap() };
    file.open(OFlags::RDONLY).unwrap();
    fs::rename(&two, &one).unwrap();
    assert!(file.open(OFlags::RDONLY).unwrap_err().to_string().contains("replaced"));
}

#[test]
fn a_file_that_was_removed_and_made_anew_is_another() {
    let lab = tempfile::tempdir().unwrap();
    let path = lab.path().join("data");
    fs::write(&path, "one").unwrap();
    let pin = Pins::default().pin(&path);
    fs::remove_file(&path).unwrap();
    let gone = pin.check().unwrap_err();
    assert!(pin.file().is_some());
    assert!(!gone.device_gone && gone.sentence.contains("cannot be followed"), "{gone}");
    fs::write(&path, "two").unwrap();
    assert!(pin.check().is_err());
    assert!(matches!(pin.remove(), Err(RemoveError::Replaced(_))));
    assert_eq!(fs::read(&path).unwrap(), b"two");
}

#[test]
fn names_of_one_entry_share_what_is_made_and_removed() {
    let lab = tempfile::tempdir().unwrap();
    let (plain, link) = (lab.path().join("new"), lab.path().join("link"));
    symlink("new", &link).unwrap();
    let mut pins = Pins::default();
    let (one, two) = (pins.pin(&plain), pins.pin(&link));
    assert!(one.is_same_entry(&two) && one.is_new() && two.is_new());
    two.create().unwrap().write_all(b"x").unwrap();
    assert_eq!(one.existing().unwrap().size(), Some(1));
    one.check().unwrap();
    assert!(matches!(one.create(), Err(CreateError::Io(_))));
    assert!(matches!(two.remove(), Err(RemoveError::NotRegular)), "a link is left alone");
    one.remove().unwrap();
    assert!(two.is_new());
    // Made once more, by a later stage.
    two.create().unwrap();
}

#[test]
fn a_file_that_appears_before_it_is_made_is_left_as_it_is() {
    let lab = tempfile::tempdir().unwrap();
    let path = lab.path().join("new");
    for appears in ["file", "link"] {
        let pin = Pins::default().pin(&path);
        if appears == "file" {
            fs::write(&path, "foreign").unwrap();
        } else {
            symlink("nothing", &path).unwrap();
        }
        let Err(CreateError::Appeared(why)) = pin.create() else { panic!("it was made") };
        assert!(why.sentence.contains("left as it is"), "{why}");
        fs::remove_file(&path).unwrap();
        assert!(!lab.path().join("nothing").exists());
    }
}

#[test]
fn directories_are_made_below_the_one_that_was_there() {
    let lab = tempfile::tempdir().unwrap();
    let (root, moved) = (lab.path().join("root"), lab.path().join("moved"));
    fs::create_dir(&root).unwrap();
    let mut pins = Pins::default();
    let (pin, beside) = (pins.pin(&root.join("a/b/data")), pins.pin(&root.join("a/b/more")));
    assert_eq!(pin.missing_directory(), Some(root.join("a/b")));
    assert!(matches!(pin.create(), Err(CreateError::Io(_))));
    // Another directory takes its name.
    fs::rename(&root, &moved).unwrap();
    fs::create_dir(&root).unwrap();
    pin.make_directories().unwrap();
    pin.create().unwrap();
    beside.create().unwrap();
    assert!(moved.join("a/b/data").exists() && moved.join("a/b/more").exists());
    let moved = pin.check().unwrap_err();
    assert!(moved.sentence.contains("cannot be followed"), "{moved}");
}

#[test]
fn a_made_file_is_locked_from_the_beginning() {
    let lab = tempfile::tempdir().unwrap();
    let path = lab.path().join("new");
    let pin = Pins::default().pin(&path);
    pin.lock_when_made(LockMode::Exclusive);
    drop(pin.create().unwrap());
    let other = File::open(&path).unwrap();
    assert!(other.try_lock_shared().is_err());
    drop(pin);
    other.try_lock_shared().unwrap();
}

#[test]
fn a_path_that_cannot_be_followed_says_why() {
    let lab = tempfile::tempdir().unwrap();
    let file = lab.path().join("file");
    fs::write(&file, "x").unwrap();
    let pin = Pins::default().pin(&file.join("below"));
    assert_eq!(pin.existing().unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
    assert!(!pin.is_new() && pin.file().is_none());
    pin.check().unwrap();
    let directory = Pins::default().pin(&lab.path().join("new/"));
    assert_eq!(directory.existing().unwrap_err().raw_os_error(), Some(libc::EISDIR));
}

#[test]
fn a_directory_that_was_exchanged_is_seen_before_a_file_is_made_and_what_was_made_can_go() {
    let lab = tempfile::tempdir().unwrap();
    for name in ["one", "other"] {
        fs::create_dir(lab.path().join(name)).unwrap();
    }
    let work = lab.path().join("work");
    symlink("one", &work).unwrap();
    let pin = Pins::default().pin(&work.join("data"));
    pin.check().unwrap();
    fs::remove_file(&work).unwrap();
    symlink("other", &work).unwrap();
    assert!(pin.check().unwrap_err().sentence.contains("led into the directory"));
    pin.create().unwrap();
    assert!(lab.path().join("one/data").exists());
    pin.remove().unwrap();
    assert!(!lab.path().join("one/data").exists());
    // What is gone already need not be removed.
    pin.create().unwrap();
    fs::remove_file(lab.path().join("one/data")).unwrap();
    pin.remove_made().unwrap();
}
