//! Of engine `spdk`: `filename`, whose targets are transport ids, and options that are no plain values.

use super::diagnostic::{Issue, Issues};
use super::kind::{text, texts};
use super::resolve::Draft;
use super::spec::JobSpec;
use super::value::{Data, Outcome, Value, quote};
use crate::base::spdk::PiCheck;
use crate::base::transport_id::{self, TransportId};

/// The engine's name in job files.
pub(crate) const ENGINE: &str = "spdk";

/// The words of `pi_chk`.
pub(crate) const CHECKS: [&str; 3] = ["GUARD", "REFTAG", "APPTAG"];

const EXAMPLE: &str = "for example filename = \"trtype=PCIe traddr=0000:5e:00.0 ns=1\"";

/// Whether a text begins with `trtype` and its sign.
fn begins_id(text: &str) -> bool {
    let text = text.trim_start();
    let key = text.get(..6).is_some_and(|key| key.eq_ignore_ascii_case("trtype"));
    key && text[6..].starts_with(['=', ':'])
}

/// Whether a name is meant for SPDK, not for the kernel: no file is ever called so by intent.
pub(crate) fn names_transport(text: &str) -> bool {
    text.split_whitespace().any(begins_id)
}

/// fio's list of files, made of transport ids: these hold `:` themselves, so a new one begins only
/// where `trtype` follows. `\:` is a colon too, as fio needs it there.
pub(crate) fn split_ids(text: &str) -> Vec<String> {
    let mut ids = vec![String::new()];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let escaped = after.strip_prefix(':').filter(|_| c == '\\');
        rest = escaped.unwrap_or(after);
        if c == ':' && begins_id(after) {
            ids.push(String::new());
        } else if let Some(id) = ids.last_mut() {
            id.push(if escaped.is_some() { ':' } else { c });
        }
    }
    ids
}

/// Reads `filename` as what the job's engine takes, now that the engine is known. What is wrong with the
/// job so far are the issues from `before` on.
pub(crate) fn settle(draft: &mut Draft<'_>, before: usize, issues: &mut Issues) {
    let told = |name: &str| {
        let place = draft.setting(name).map(|setting| &setting.value.place);
        let found = issues.kept().get(before..).unwrap_or_default();
        place.is_some_and(|place| found.iter().any(|issue| issue.place.as_ref() == Some(place)))
    };
    if told("ioengine") || told("filename") {
        return;
    }
    if draft.job.ioengine != ENGINE {
        if let Some(name) = draft.job.filename.iter().find(|name| names_transport(name)) {
            let short: String = name.chars().take(80).collect();
            let message = format!(
                "`filename`: `{short}` names a device for SPDK, and `{}` opens files",
                draft.job.ioengine
            );
            issues.push(Issue::new(message).at(draft.place("filename")).help("set ioengine = \"spdk\""));
        }
        return;
    }
    let Some(value) = draft.setting("filename").map(|setting| setting.value.clone()) else {
        let message = "the `spdk` engine needs `filename`: the transport id of a namespace";
        issues.push(Issue::new(message).at(draft.place("ioengine")).help(EXAMPLE));
        return;
    };
    match targets(&value) {
        Ok(ids) => draft.job.filename = ids,
        Err(mut issue) => {
            issue.message = format!("`filename`: {}", issue.message);
            issue.place.get_or_insert_with(|| value.place.clone());
            issues.push(issue);
        }
    }
}

/// The targets in their canonical spelling.
fn targets(value: &Value) -> Outcome<Vec<String>> {
    let names = texts(value, split_ids)?;
    let mut ids: Vec<String> = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let at = match &value.data {
            Data::List(items) => items.get(index).unwrap_or(value),
            _ => value,
        };
        let id = match TransportId::parse(name) {
            Ok(id) => id.to_string(),
            Err(why) => {
                let issue = at.bad(why).label("expected a transport id of SPDK");
                let is_path = name.starts_with("/dev/");
                return Err(if is_path {
                    issue.help(format!("`fio-spdk devices` lists addresses; {EXAMPLE}"))
                } else {
                    issue.help(EXAMPLE)
                });
            }
        };
        ids.push(id);
    }
    let mut sorted: Vec<&String> = ids.iter().collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(value.bad(format!("`{}` is there twice", pair[0])));
    }
    Ok(ids)
}

/// `huge_dir`.
pub(crate) fn set_huge_dir(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let path = text(value)?;
    if path.is_empty() || path.contains('\0') {
        return Err(value.bad("this cannot be a directory"));
    }
    job.spdk.huge_dir = Some(path);
    Ok(())
}

/// `hostnqn`.
pub(crate) fn set_hostnqn(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let name = text(value)?;
    transport_id::check_nqn(&name).map_err(|why| value.bad(why))?;
    job.spdk.hostnqn = Some(name);
    Ok(())
}

/// `pi_chk`.
pub(crate) fn set_pi_chk(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let words = match &value.data {
        Data::Text(text) if text.trim().eq_ignore_ascii_case("none") => Vec::new(),
        _ => texts(value, |text| text.split('|').map(|word| word.trim().to_owned()).collect())?,
    };
    let mut check = PiCheck::default();
    for word in &words {
        match word.to_ascii_uppercase().as_str() {
            "GUARD" => check.guard = true,
            "REFTAG" => check.reference = true,
            "APPTAG" => check.application = true,
            _ => {
                return Err(value.bad(format!("`{word}` is none of {}", CHECKS.join(", "))));
            }
        }
    }
    job.spdk.pi_chk = check;
    Ok(())
}

/// `pi_chk` in TOML, if there is something to check.
pub(crate) fn show_pi_chk(job: &JobSpec) -> Option<String> {
    let PiCheck { guard, reference, application } = job.spdk.pi_chk;
    let words = CHECKS.into_iter().zip([guard, reference, application]);
    let words: Vec<&str> = words.filter(|(_, set)| *set).map(|(word, _)| word).collect();
    (!words.is_empty()).then(|| quote(&words.join("|")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::spdk::{Digest, IovaMode, Priority, SpdkOptions, TimeoutAction, WriteMode};
    use crate::job::{parse, print};

    const DISK: &str = "trtype=PCIe traddr=0000:5e:00.0 ns=1";
    const OTHER: &str = "trtype=PCIe traddr=0000:5f:00.0 ns=1";
    const TCP: &str = "trtype=TCP traddr=fe80::1 subnqn=nqn.2016-06.io.spdk:cnode1";

    fn jobs(text: &str, over: &[(&str, &str)]) -> Result<Vec<JobSpec>, String> {
        let over: Vec<(String, String)> =
            over.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse(&[("job.toml".to_owned(), text.to_owned())], &over).map_err(|why| why.render(false))
    }

    /// One job on a PCIe namespace, with these lines.
    fn job(lines: &str) -> Result<JobSpec, String> {
        let text = format!("[global]\nioengine = \"spdk\"\nfilename = \"{DISK}\"\n[[job]]\n{lines}\n");
        jobs(&text, &[]).map(|mut jobs| jobs.remove(0))
    }

    #[test]
    fn a_string_of_ids_is_divided_before_trtype_only() {
        for (text, ids) in [
            ("0000:5e:00.0", vec!["0000:5e:00.0"]),
            ("trtype=PCIe traddr=0000\\:5e\\:00.0 ns=1", vec![DISK]),
            (&format!("{DISK}:{OTHER}"), vec![DISK, OTHER]),
            (&format!("{DISK}: TrType:tcp traddr:::1"), vec![DISK, " TrType:tcp traddr:::1"]),
            ("a\\:trtype=b", vec!["a:trtype=b"]),
            ("a\\b:trtypes=x:", vec!["a\\b:trtypes=x:"]),
            (":trtype=PCIe", vec!["", "trtype=PCIe"]),
            ("ü:trtype", vec!["ü:trtype"]),
        ] {
            assert_eq!(split_ids(text), ids, "{text}");
        }
    }

    #[test]
    fn targets_are_kept_in_one_spelling_wherever_the_engine_was_said() {
        let line = |value: &str| format!("filename = {value}\n");
        for value in [
            format!("'{DISK}:{OTHER}'"),
            format!("[\"{DISK}\", \"5F:00.0\"]"),
            "'trtype:pcie traddr:0000.5e.00.0:trtype:pcie traddr:5f.00.0'".to_owned(),
            "'trtype=PCIe traddr=0000\\:5e\\:00.0 ns=1:trtype=PCIe traddr=0000\\:5f\\:00.0'".to_owned(),
        ] {
            let set = line(&value);
            for (text, over) in [
                (format!("[global]\nioengine = \"spdk\"\n[[job]]\n{set}"), &[][..]),
                (format!("[global]\n{set}[[job]]\nioengine = \"spdk\"\n"), &[]),
                (format!("[[job]]\n{set}"), &[("ioengine", "spdk")]),
            ] {
                let read = jobs(&text, over).unwrap_or_else(|why| panic!("{text}\n{why}"));
                assert_eq!(read[0].filename, [DISK, OTHER], "{text}");
                assert_eq!(jobs(&print(&read), &[]).as_ref(), Ok(&read));
            }
        }
        let over = [("ioengine", "spdk"), ("filename", TCP)];
        let read = jobs("[[job]]\n", &over).unwrap();
        assert!(read[0].filename[0].starts_with("trtype=TCP adrfam=IPv6 traddr=fe80::1 trsvcid=4420 "));
        assert_eq!(jobs(&print(&read), &[]).as_ref(), Ok(&read));
    }

    #[test]
    fn a_wrong_target_is_shown_where_it_stands() {
        let text = format!(
            "[[job]]\nioengine = \"spdk\"\nfilename = [\n  \"{DISK}\",\n  \"trtype=PCIe trad=1\",\n]\n"
        );
        let why = jobs(&text, &[]).unwrap_err();
        assert!(why.contains("job.toml:5:3") && why.contains("did you mean `traddr`"), "{why}");
        for (lines, word) in [
            ("filename = \"/dev/nvme0n1\"", "fio-spdk devices"),
            ("filename = [\"5e:00.0\", \"0000:5e:00.0\"]", "there twice"),
            ("filename = \"\"", "empty name"),
            ("filename = 7", "a string or an array"),
            ("ioengine = \"psync\"", "names a device for SPDK"),
            ("ioengine = \"sim\"\nsize = \"1g\"", "names a device for SPDK"),
        ] {
            let why = job(lines).unwrap_err();
            assert!(why.contains(word) && why.contains("job.toml:"), "{lines}: {why}");
        }
        // Whatever else is wrong with the job, and once.
        let why = job("iodepth = 0\nfilename = \"trtype=PCI traddr=1\"").unwrap_err();
        assert!(why.contains("below 1") && why.matches("did you mean `PCIe`").count() == 1, "{why}");
        let why = job("filename = \"\"").unwrap_err();
        assert_eq!(why.matches("error:").count(), 1, "{why}");
        let why = job("ioengine = \"pssync\"").unwrap_err();
        assert_eq!(why.matches("error:").count(), 1, "{why}");
        let why = jobs("[[job]]\nioengine = \"spdk\"\n", &[]).unwrap_err();
        assert!(why.contains("needs `filename`") && why.contains("trtype=PCIe"), "{why}");
    }

    #[test]
    fn each_rule_has_its_message() {
        for (lines, word) in [
            ("directory = \"/tmp\"", "`directory` is for files"),
            ("direct = false", "always goes around"),
            ("create_only = true", "no files"),
            ("io_queue_size = 1", "below 2"),
            ("io_queue_size = 65537", "above 65536"),
            ("io_queue_size = 32\niodepth = 32", "holds 31 commands"),
            ("io_queue_requests = 8\niodepth = 9", "below the `iodepth`"),
            ("arbitration_burst = 1", "needs `enable_wrr`"),
            ("enable_wrr = true\narbitration_burst = 8", "above 7"),
            ("low_weight = 2", "needs `enable_wrr`"),
            ("enable_wrr = true\nlow_weight = 0", "below 1"),
            ("medium_weight = 2", "needs `enable_wrr`"),
            ("high_weight = 2", "needs `enable_wrr`"),
            ("enable_wrr = true\nhigh_weight = 257", "above 256"),
            ("wrr_priority = \"low\"", "needs `enable_wrr`"),
            ("wrr_priority = \"hihg\"", "did you mean `high`"),
            ("timeout_action = \"abort\"", "needs `command_timeout`"),
            ("command_timeout = \"1ns\"", "microseconds"),
            ("keep_alive_timeout = \"1us\"", "milliseconds"),
            ("keep_alive_timeout = \"50d\"", "milliseconds"),
            ("apptag = 0x10000", "above 65535"),
            ("pi_act = true\napptag_mask = 1", "needs `pi_chk`"),
            ("pi_chk = \"GUARD|TAG\"", "none of GUARD, REFTAG, APPTAG"),
            ("pi_chk = \"GUARD|\"", "empty name"),
            ("digest_enable = \"both\"", "trtype=TCP"),
            ("hostnqn = \"nqn.2014-08.org.example:me\"", "needs a target of fabrics"),
            ("hostnqn = \"me\"", "no qualified name"),
            ("huge_dir = \"\"", "cannot be a directory"),
            ("write_mode = \"zeroes\"", "a workload that writes"),
            ("rw = \"write\"\nwrite_mode = \"uncor\"\nwritefua = true", "that store data"),
            ("rw = \"write\"\nwrite_mode = \"verify\"\nwritefua = true", "that store data"),
            ("rw = \"write\"\nwrite_mode = \"compare\"\nverify = \"crc32c\"", "makes no sense with `verify`"),
            ("shm_id = 1", "memory of its own"),
            ("disable_pcie_sgl_merge = true", "nothing to merge"),
        ] {
            let why = job(lines).expect_err(lines);
            assert!(why.contains(word), "{lines}: {why}");
        }
    }

    #[test]
    fn options_of_the_driver_need_its_engine() {
        for option in crate::job::table().iter().filter(|option| option.section == "SPDK") {
            let value = match option.name {
                "apptag_mask" | "low_weight" | "medium_weight" | "high_weight" | "io_queue_size" => "2",
                "keep_alive_timeout" | "command_timeout" | "apptag" | "arbitration_burst" => "3",
                "io_queue_requests" | "num_io_queues" | "mem_size_mb" | "admin_cpu" => "4",
                "hostnqn" => "'nqn.2014-08.org.example:me'",
                "huge_dir" => "'/dev/hugepages'",
                "pi_chk" => "'guard'",
                "delay_cmd_submit" => "false",
                name => match option.choices().last() {
                    Some(&"false") => "true",
                    Some(word) => &format!("'{word}'"),
                    None => panic!("{name}"),
                },
            };
            let why =
                jobs(&format!("[[job]]\nsize = 1\n{} = {value}\n", option.name), &[]).expect_err(option.name);
            assert!(why.contains(&format!("`{}` needs ioengine = \"spdk\"", option.name)), "{why}");
        }
        // What changes nothing is no mistake.
        assert!(jobs("[[job]]\nsize = 1\nlow_weight = 1\n", &[]).is_ok());
    }

    #[test]
    fn every_option_lands_in_its_field_and_prints_back() {
        let lines = format!(
            "filename = [\"{DISK}\", \"{TCP}\"]\niodepth = 64\nrw = \"write\"\nio_queue_size = 65536\n\
             io_queue_requests = 512\nnum_io_queues = 8\ndelay_cmd_submit = false\nuse_cmb_sqs = true\n\
             enable_wrr = true\narbitration_burst = 7\nlow_weight = 2\nmedium_weight = 3\nhigh_weight = 256\n\
             wrr_priority = 0\nmem_size_mb = 512\nmem_single_seg = true\nhuge_dir = \"/dev/hugepages\"\n\
             iova_mode = \"va\"\nadmin_cpu = 3\nhostnqn = \"nqn.2014-08.org.example:me\"\n\
             digest_enable = \"BOTH\"\npi_act = true\npi_chk = \"apptag|GUARD\"\napptag = 0x1234\n\
             apptag_mask = \"0xff\"\ncommand_timeout = \"5s\"\ntimeout_action = \"reset\"\n\
             keep_alive_timeout = 0\nvolatile_write_cache = false\nwrite_mode = \"compare\"\nreadfua = true"
        );
        let expected = SpdkOptions {
            io_queue_size: Some(65536),
            io_queue_requests: Some(512),
            num_io_queues: Some(8),
            delay_cmd_submit: false,
            use_cmb_sqs: true,
            enable_wrr: true,
            arbitration_burst: 7,
            low_weight: 2,
            medium_weight: 3,
            high_weight: 256,
            wrr_priority: Priority::Urgent,
            mem_size_mb: Some(512),
            mem_single_seg: true,
            huge_dir: Some("/dev/hugepages".to_owned()),
            iova_mode: Some(IovaMode::Va),
            admin_cpu: Some(3),
            hostnqn: Some("nqn.2014-08.org.example:me".to_owned()),
            digest_enable: Digest::Both,
            pi_act: true,
            pi_chk: PiCheck { guard: true, reference: false, application: true },
            apptag: 0x1234,
            apptag_mask: 0xff,
            command_timeout_ns: 5_000_000_000,
            timeout_action: TimeoutAction::Reset,
            keep_alive_timeout_ns: 0,
            volatile_write_cache: Some(false),
            write_mode: WriteMode::Compare,
            readfua: true,
        };
        let read = job(&lines).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(read.spdk, expected);
        let printed = print(std::slice::from_ref(&read));
        assert_eq!(jobs(&printed, &[]), Ok(vec![read]), "{printed}");
        let zero =
            job("mem_size_mb = 0\nio_queue_requests = 0\nnum_io_queues = 0\npi_chk = \"NONE\"").unwrap();
        assert_eq!(zero.spdk, SpdkOptions::default());
    }

    #[test]
    fn jobs_agree_on_what_they_share() {
        let two = |one: &str, other: &str| {
            jobs(&format!("[global]\nioengine = \"spdk\"\n[[job]]\n{one}\n[[job]]\n{other}\n"), &[])
        };
        let (disk, next) = (format!("filename = \"{DISK}\"\n"), "filename = \"5e:00.0 ns=2\"\n");
        let other = format!("filename = \"{OTHER}\"\n");
        let cache = "volatile_write_cache = \"off\"\n";
        for line in [
            "mem_size_mb = 64",
            "mem_single_seg = true",
            "huge_dir = \"/h\"",
            "iova_mode = \"pa\"",
            "admin_cpu = 1",
        ] {
            // Of the process, whatever the targets and stages are.
            let why = two(&disk, &format!("{other}stonewall = true\n{line}")).unwrap_err();
            let name = line.split(' ').next().unwrap_or_default();
            assert!(why.contains(&format!("differ in `{name}`")) && why.contains("job.toml:6"), "{why}");
        }
        let why = two(&disk, &format!("{next}{cache}")).unwrap_err();
        assert!(why.contains("jobs `job` and `job2` differ in `volatile_write_cache`"), "{why}");
        for (one, second) in [
            (disk.clone(), format!("{other}{cache}")),
            (disk.clone(), format!("{next}{cache}stonewall = true")),
            (disk.clone(), format!("{next}readfua = true\nio_queue_size = 99")),
            (disk, "ioengine = \"null\"\nsize = 1\nfilename = \"x\"".to_owned()),
        ] {
            assert!(two(&one, &second).is_ok(), "{one}{second}");
        }
    }
}
