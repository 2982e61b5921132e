//! A job as another program of ours told it: one that may know other options, and that nobody trusts.

use super::diagnostic::{Issues, MOST_ISSUES, Place};
use super::options::OPTIONS;
use super::resolve::{Level, Setting, resolve};
use super::spec::JobSpec;
use super::syntax;
use super::table::find;
use super::value::{Data, Value};

/// Reads the first `[[job]]` of a text that [`print`](super::print) wrote, perhaps of another version.
/// What is no option here, or has a value that it does not take here, is left out and named. What must
/// hold between options is not asked, and no file is read: the job is told of, not run.
#[must_use]
pub fn recall(text: &str) -> (JobSpec, Vec<String>) {
    let mut left_out = Vec::new();
    let mut level = Level::default();
    for (name, key, value) in first_job(text) {
        // A job has each option once; a table of a million of them is no job.
        if left_out.len() >= MOST_ISSUES || level.settings.len() > OPTIONS.len() {
            break;
        }
        let option = find(&name).filter(|(_, option)| {
            !names_file(option.name, &value) && option.kind.set(&mut JobSpec::default(), &value).is_ok()
        });
        match option {
            Some((option, _)) => level.settings.push(Setting { option, key, value }),
            None => left_out.push(name),
        }
    }
    let header = Place { source: 0, span: 0..0 };
    let job = resolve(&[&level], 0, &header, false, &mut Issues::default());
    (job.unwrap_or_default(), left_out)
}

fn first_job(text: &str) -> Vec<(String, Place, Value)> {
    let entries = syntax::read(0, text).entries.into_iter();
    let jobs = entries.filter(|(name, ..)| name == "job").find_map(|(_, _, value)| match value.data {
        Data::List(items) => items.into_iter().next(),
        _ => None,
    });
    match jobs {
        Some(Value { data: Data::Table(table), .. }) => table,
        _ => Vec::new(),
    }
}

/// Whether an option could read a file that its value names: `print` writes patterns in hexadecimal.
fn names_file(option: &str, value: &Value) -> bool {
    option.ends_with("_pattern") && matches!(&value.data, Data::Text(text) if text.contains('\''))
}

#[cfg(test)]
mod tests {
    use super::super::{parse, print};
    use super::*;

    fn told(lines: &str) -> (JobSpec, Vec<String>) {
        recall(&format!("[[job]]\nname = \"a\"\n{lines}"))
    }

    #[test]
    fn a_job_of_ours_is_recalled_whole() {
        let text = "[[job]]\nname = \"w\"\nrw = \"randwrite\"\nfilename = \"/tmp/x\"\nsize = \"1m\"\n\
                    verify = \"crc32c\"\nverify_pattern = \"0xdead%o\"\nnumjobs = 3\n";
        let jobs = parse(&[("a.toml".to_owned(), text.to_owned())], &[]).unwrap();
        assert_eq!(recall(&print(&jobs)), (jobs[0].clone(), Vec::new()));
    }

    #[test]
    fn what_this_version_does_not_know_is_left_out_and_named() {
        let (job, left_out) =
            told("numjobs = 5\nwarp_factor = 9\nioengine = \"subspace\"\niodepth = 7\nbs = -1\n");
        assert_eq!((job.numjobs, job.iodepth, job.name.as_str()), (5, 7, "a"));
        assert_eq!(job.ioengine, JobSpec::default().ioengine);
        assert_eq!(left_out, ["warp_factor", "ioengine", "bs"]);
        for nothing in ["", "job = 5", "[[job", "[campaign]", "[[job]]"] {
            assert_eq!(recall(nothing), (JobSpec::default(), Vec::new()), "{nothing}");
        }
    }

    #[test]
    fn no_file_is_read_for_a_job_that_is_only_told_of() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 16]).unwrap();
        for option in ["buffer_pattern", "verify_pattern"] {
            let (job, left_out) = told(&format!("{option} = \"0x00'{}'\"\n", file.path().display()));
            assert_eq!((job.content.buffer_pattern, job.verify.pattern), (None, None));
            assert_eq!(left_out, [option]);
        }
    }
}
