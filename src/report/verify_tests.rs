//! Reports of jobs that verify.

use proptest::prelude::*;
use serde_json::Value;

use crate::base::Op;
use crate::base::shape::Mix;
use crate::base::verify::{Finding, Verdict};
use crate::stats::VerifyTally;

use super::tests::{SECOND, check_golden, count, from_to, job, parsed, report, spec, text_in};
use super::{Report, finding_line};

pub(crate) fn lost(number: u64) -> Finding {
    Finding {
        verdict: Verdict::Lost,
        target: 0,
        offset: number * 4096,
        len: 4096,
        stands: format!(
            "write {number} of worker 1 of run 0123456789abcdef0123456789abcdef, for offset {}, \
             written 2026-11-21T05:23:51Z",
            number * 4096
        ),
        allowed: "write 900 (in flight), or write 800 (durable)".to_owned(),
        promise: "write 800 was made durable by a flush".to_owned(),
        details: Vec::new(),
        named_offset: None,
        rereads: vec![Verdict::Lost, Verdict::Lost],
        atomic: None,
    }
}

pub(crate) fn torn() -> Finding {
    Finding {
        verdict: Verdict::Torn,
        target: 1,
        stands: "parts of several: write 800; zeros".to_owned(),
        details: vec!["LBAs 80 to 83: write 800".to_owned(), "LBAs 84 to 87: zeros".to_owned()],
        rereads: vec![Verdict::Torn, Verdict::Ok],
        ..lost(10)
    }
}

fn allowed() -> Finding {
    Finding { verdict: Verdict::AllowedLoss, ..lost(99) }
}

/// A job that finds violations, one that has checked too little, one that is well.
pub(crate) fn verified() -> Report {
    let mut tally = VerifyTally {
        transient: 1,
        oldest_loss_writes: 12,
        read_bytes: 25_590 * 4096,
        read_ns: 1_250_000_000,
        ..VerifyTally::default()
    };
    tally.judged(Verdict::Ok, 25_575, 25_570);
    tally.judged(Verdict::AllowedLoss, 9, 4);
    tally.judged(Verdict::Lost, 5, 5);
    tally.judged(Verdict::Torn, 1, 1);
    tally.skip("verify_fatal ended the job", 10);
    tally.doubt("power cut.0", "not every block was checked");
    (1..6).for_each(|number| tally.keep(&lost(number)));
    tally.keep(&torn());
    tally.keep(&allowed());
    let mut stats = from_to(5 * SECOND, 15 * SECOND);
    count(&mut stats, Op::Write, 25_600, 21_000, true);
    let mut broken = job(spec("power cut", Mix::Write, true), 0, stats);
    broken.spec.filename.push("/dev/nvme1n1".to_owned());
    broken.verify = Some(tally);

    let mut missed = job(spec("nothing", Mix::Write, true), 1, from_to(SECOND, SECOND));
    let mut nothing = VerifyTally::default();
    (0..3).for_each(|worker| nothing.doubt(&format!("nothing.{worker}"), "there was nothing to check"));
    missed.verify = Some(nothing);

    let mut tally = VerifyTally { checked_early: 2, read_bytes: 12_288, ..VerifyTally::default() };
    tally.judged(Verdict::Ok, 3, 3);
    let mut well = job(spec("well", Mix::Write, true), 2, from_to(SECOND, SECOND));
    well.verify = Some(tally);
    report(vec![broken, missed, well])
}

#[test]
fn people_and_programs_read_this() {
    check_golden("verify.txt", &text_in("normal", &verified()));
    let json = parsed("json", &verified());
    let parts: Vec<&Value> = json["jobs"].as_array().unwrap().iter().map(|job| &job["verify"]).collect();
    check_golden("verify.json", &format!("{:#}\n", Value::from_iter(parts.into_iter().cloned())));
}

#[test]
fn violations_and_coverage_are_summed_over_jobs() {
    let mut all = verified();
    assert_eq!((all.violations(), all.inconclusive()), (6, true));
    all.jobs.drain(..2);
    assert_eq!((all.violations(), all.inconclusive()), (0, false));
    assert!(!text_in("normal", &all).contains("TROUBLE"));
    all.jobs[0].verify = None;
    assert_eq!((all.violations(), all.inconclusive()), (0, false));
    assert!(parsed("json", &all)["jobs"][0].get("verify").is_none());
}

#[test]
fn every_verdict_is_counted_in_json_and_violations_are_marked_in_text() {
    let mut one = report(vec![job(spec("j", Mix::Write, true), 0, from_to(0, SECOND))]);
    for verdict in Verdict::ALL {
        let mut tally = VerifyTally::default();
        tally.judged(verdict, 7, 7);
        one.jobs[0].verify = Some(tally);
        let json = parsed("json", &one);
        let verdicts = json["jobs"][0]["verify"]["verdicts"].as_object().unwrap();
        assert_eq!(verdicts.len(), Verdict::ALL.len());
        assert_eq!(verdicts[verdict.name()], 7);
        let text = text_in("normal", &one);
        let line = format!("{verdict}=7{}", if verdict.is_violation() { " (VIOLATION)" } else { "" });
        assert!(text.contains(&format!("          {line}\n")), "{text}");
    }
}

#[test]
fn a_group_of_several_jobs_does_not_name_the_target_of_another() {
    let mut all = verified();
    all.jobs[0].workers = all.jobs[0].spec.numjobs + 1;
    let text = text_in("normal", &all);
    assert!(text.contains("torn: at offset 40960 of target 1, 4096 bytes"), "{text}");
}

#[test]
fn so_far_nothing_is_inconclusive() {
    let mut all = verified();
    all.jobs.remove(0);
    all.unfinished = true;
    assert!(!text_in("normal", &all).contains("TROUBLE"));
    all.unfinished = false;
    assert!(text_in("normal", &all).contains("TROUBLE: verification is inconclusive"));
}

proptest! {
    #[test]
    fn any_finding_is_one_line_of_json_and_fits_the_page(
        job in any::<String>(), target in any::<String>(), words in any::<String>(), count in 0_usize..40,
    ) {
        let mut finding = torn();
        (finding.stands, finding.allowed) = (words.repeat(20), words.clone());
        finding.details = vec![words.clone(); count];
        let line = finding_line(&job, &target, &finding);
        prop_assert!(!line.contains(['\n', '\r']));
        let value: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&value["job"], &Value::from(job));
        prop_assert_eq!(&value["target"], &Value::from(target));
        prop_assert_eq!(value["details"].as_array().unwrap().len(), count);
        prop_assert_eq!((&value["verdict"], &value["transient"]), (&Value::from("torn"), &Value::from(true)));
        let mut all = verified();
        if let Some(tally) = &mut all.jobs[0].verify {
            tally.examples = vec![finding];
            tally.skip(&words, 3);
        }
        for line in text_in("normal", &all).lines() {
            prop_assert!(line.chars().count() <= 110, "{}", line);
        }
    }
}
