//! What came of a cycle: as a line of `campaign.jsonl`, as a line for people, and in the table.

use serde_json::{Map, Value, json};

use crate::base::verify::Verdict;

use super::child::span;

/// How a cycle ended, the better ones first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every promise was judged and kept.
    Clean,
    /// Nothing, or less than promised, could be judged.
    Inconclusive,
    /// Something else than the device's promises went wrong.
    #[default]
    Failed,
    /// A promise was broken.
    Violation,
}

impl Outcome {
    const ALL: [Outcome; 4] = [Outcome::Clean, Outcome::Violation, Outcome::Failed, Outcome::Inconclusive];

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Clean => "clean",
            Outcome::Inconclusive => "inconclusive",
            Outcome::Failed => "failed",
            Outcome::Violation => "violation",
        }
    }
}

/// A cycle that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cycle {
    /// Its number, from 1.
    pub number: u64,
    /// When after the start of its writing the power was to be cut.
    pub moment_ns: u64,
    /// When it was; `None` if it was not, or nobody knows.
    pub cut_ns: Option<u64>,
    /// It went on where the cycle before was cut.
    pub continues: bool,
    /// The targets under the names that they had when they were judged.
    pub targets: Vec<String>,
    /// Exit code of the writing child; `None` if it was killed.
    pub write_exit: Option<i32>,
    /// Exit code of the judging child; `None` if there was none, or it was killed.
    pub judge_exit: Option<i32>,
    /// Blocks that something was promised of.
    pub promised: u64,
    /// Blocks that were judged.
    pub checked: u64,
    /// How many blocks got which verdict, but for 0.
    pub verdicts: Vec<(String, u64)>,
    /// How long its parts took.
    pub took_ns: Vec<(String, u64)>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    pub why: Vec<String>,
}

impl Cycle {
    /// Takes what the judging child reported.
    pub fn take(&mut self, report: &Value) {
        let jobs = report.get("jobs").and_then(Value::as_array);
        let verified = jobs.into_iter().flatten().filter_map(|job| job.get("verify"));
        for verify in verified {
            let number = |name: &str| verify.get(name).and_then(Value::as_u64).unwrap_or(0);
            self.promised += number("promised");
            self.checked += number("checked");
            let counts = verify.get("verdicts").and_then(Value::as_object);
            for (name, count) in counts.into_iter().flatten() {
                add(&mut self.verdicts, name, count.as_u64().unwrap_or(0));
            }
        }
    }

    /// A line of `campaign.jsonl`, with its end.
    pub fn line(&self) -> String {
        let object = json!({
            "cycle": self.number,
            "moment_ns": self.moment_ns,
            "cut_ns": self.cut_ns,
            "continues": self.continues,
            "targets": self.targets,
            "write_exit": self.write_exit,
            "judge_exit": self.judge_exit,
            "promised": self.promised,
            "checked": self.checked,
            "verdicts": map(&self.verdicts),
            "took_ns": map(&self.took_ns),
            "outcome": self.outcome.name(),
            "why": self.why,
        });
        format!("{object}\n")
    }

    /// From a line of `campaign.jsonl`.
    pub fn from_line(line: &str) -> Option<Cycle> {
        let value: Value = serde_json::from_str(line).ok()?;
        let number = |name: &str| value.get(name)?.as_u64();
        let code = |name: &str| i32::try_from(value.get(name)?.as_i64()?).ok();
        let counts = |name: &str| -> Option<Vec<(String, u64)>> {
            let counts = value.get(name)?.as_object()?;
            counts.iter().map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect()
        };
        let texts = |name: &str| -> Option<Vec<String>> {
            value.get(name)?.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let outcome = value.get("outcome")?.as_str()?;
        Some(Cycle {
            number: number("cycle")?,
            moment_ns: number("moment_ns")?,
            cut_ns: number("cut_ns"),
            continues: value.get("continues")?.as_bool()?,
            targets: texts("targets")?,
            write_exit: code("write_exit"),
            judge_exit: code("judge_exit"),
            promised: number("promised")?,
            checked: number("checked")?,
            verdicts: counts("verdicts")?,
            took_ns: counts("took_ns")?,
            outcome: Outcome::ALL.into_iter().find(|known| known.name() == outcome)?,
            why: texts("why")?,
        })
    }

    /// For people.
    pub fn told(&self, cycles: u64) -> String {
        let width = cycles.to_string().len();
        let cut = match self.cut_ns {
            Some(cut_ns) => format!("cut after {}", span(cut_ns)),
            None => format!("cut due after {}", span(self.moment_ns)),
        };
        let not_ok: Vec<String> = self
            .verdicts
            .iter()
            .filter(|(name, _)| name != Verdict::Ok.name())
            .map(|(name, count)| format!(", {count} {name}"))
            .collect();
        let mut line = format!(
            "cycle {:>width$} of {cycles}: {cut}, {} of {} blocks checked{}: {}",
            self.number,
            self.checked,
            self.promised,
            not_ok.concat(),
            self.outcome.name()
        );
        if !self.why.is_empty() {
            line.push_str(&format!(" ({})", self.why.join("; ")));
        }
        // What a command or device says must not drive the terminal.
        crate::base::host::printable(&line) + "\n"
    }
}

fn map(counts: &[(String, u64)]) -> Map<String, Value> {
    counts.iter().map(|(name, count)| (name.clone(), (*count).into())).collect()
}

fn add(counts: &mut Vec<(String, u64)>, name: &str, count: u64) {
    if count == 0 {
        return;
    }
    match counts.iter_mut().find(|(known, _)| known == name) {
        Some((_, sum)) => *sum += count,
        None => counts.push((name.to_owned(), count)),
    }
}

/// The worst outcome.
pub fn worst(cycles: &[Cycle]) -> Outcome {
    cycles.iter().map(|cycle| cycle.outcome).max().unwrap_or(Outcome::Clean)
}

/// Which cycles: `3, 7-9, 12`.
fn numbers(cycles: impl Iterator<Item = u64>) -> String {
    const MOST: usize = 12;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in cycles {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let shown = runs
        .iter()
        .take(MOST)
        .map(|&(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    let more = if runs.len() > MOST { ", ..." } else { "" };
    shown.collect::<Vec<_>>().join(", ") + more
}

/// The table over all cycles and verdicts.
pub fn table(done: &[Cycle], cycles: u64) -> String {
    let mut out = format!("\n{} of {cycles} cycles have ended\n", done.len());
    out.push_str(&format!("  {:<18}{:>14}{:>9}  which\n", "outcome", "", "cycles"));
    for outcome in Outcome::ALL {
        let which = || done.iter().filter(|cycle| cycle.outcome == outcome);
        let count = which().count();
        if count > 0 {
            let numbers = numbers(which().map(|cycle| cycle.number));
            out.push_str(&format!("  {:<18}{:>14}{count:>9}  {numbers}\n", outcome.name(), ""));
        }
    }
    let promised: u64 = done.iter().map(|cycle| cycle.promised).sum();
    let checked: u64 = done.iter().map(|cycle| cycle.checked).sum();
    out.push_str(&format!("  {:<18}{:>14}{:>9}\n", "verdict", "blocks", "cycles"));
    for verdict in Verdict::ALL {
        let of = |cycle: &Cycle| {
            cycle
                .verdicts
                .iter()
                .filter(|(name, _)| name == verdict.name())
                .map(|(_, count)| count)
                .sum::<u64>()
        };
        let blocks: u64 = done.iter().map(of).sum();
        if blocks > 0 {
            let which = || done.iter().filter(|cycle| of(cycle) > 0);
            let mark = if verdict.is_violation() {
                numbers(which().map(|cycle| cycle.number))
            } else {
                String::new()
            };
            let row = format!("  {:<18}{blocks:>14}{:>9}  {mark}", verdict.name(), which().count());
            out.push_str(row.trim_end());
            out.push('\n');
        }
    }
    out.push_str(&format!("  {checked} of {promised} promised blocks checked\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycle(number: u64, outcome: Outcome, verdicts: &[(&str, u64)]) -> Cycle {
        Cycle {
            number,
            moment_ns: 27_310_000_000,
            cut_ns: Some(27_310_100_000),
            targets: vec!["/dev/nvme1n1".to_owned()],
            write_exit: Some(0),
            promised: 10,
            checked: 9,
            verdicts: verdicts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            took_ns: vec![("write".to_owned(), 28)],
            outcome,
            why: vec!["a \"reason\"\nof two lines".to_owned()],
            ..Cycle::default()
        }
    }

    #[test]
    fn a_cycle_comes_back_from_its_line_as_it_was() {
        for outcome in Outcome::ALL {
            let cycle = cycle(7, outcome, &[("ok", 8), ("lost", 1)]);
            let line = cycle.line();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(Cycle::from_line(&line), Some(cycle));
        }
        let line = cycle(7, Outcome::Clean, &[]).line();
        for cut in 0..line.len() - 1 {
            assert_eq!(Cycle::from_line(&line[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn what_several_jobs_were_judged_is_added_up() {
        let mut cycle = Cycle::default();
        let job = json!({ "verify": { "promised": 5, "checked": 4, "verdicts": { "ok": 3, "lost": 1, "torn": 0 } } });
        cycle.take(&json!({ "jobs": [job, { "jobname": "no verify" }, job] }));
        assert_eq!((cycle.promised, cycle.checked), (10, 8));
        assert_eq!(cycle.verdicts, [("ok".to_owned(), 6), ("lost".to_owned(), 2)]);
        cycle.take(&json!("nonsense"));
        assert_eq!(cycle.promised, 10);
    }

    #[test]
    fn a_line_for_people_has_all_that_is_not_ok_and_one_line() {
        let told = cycle(7, Outcome::Violation, &[("ok", 8), ("lost", 1)]).told(100);
        assert!(
            told.starts_with(
                "cycle   7 of 100: cut after 27.31s, 9 of 10 blocks checked, 1 lost: violation ("
            )
        );
        assert_eq!(told.matches('\n').count(), 1, "{told}");
    }

    #[test]
    fn a_violation_is_worse_than_a_failure_and_that_than_doubt() {
        let all = |outcomes: &[Outcome]| {
            worst(&outcomes.iter().map(|outcome| cycle(1, *outcome, &[])).collect::<Vec<_>>())
        };
        assert_eq!(all(&[Outcome::Failed, Outcome::Violation, Outcome::Clean]), Outcome::Violation);
        assert_eq!(all(&[Outcome::Inconclusive, Outcome::Failed]), Outcome::Failed);
        assert_eq!(all(&[Outcome::Inconclusive, Outcome::Clean]), Outcome::Inconclusive);
        assert_eq!(all(&[]), Outcome::Clean);
    }

    #[test]
    fn the_table_says_which_cycles_broke_a_promise() {
        let done = [
            cycle(1, Outcome::Clean, &[("ok", 9)]),
            cycle(2, Outcome::Violation, &[("ok", 8), ("lost", 1)]),
            cycle(3, Outcome::Violation, &[("lost", 9)]),
            cycle(5, Outcome::Violation, &[("torn", 9)]),
        ];
        let table = table(&done, 9);
        for part in ["4 of 9 cycles", "2-3, 5", "36 of 40 promised blocks checked"] {
            assert!(table.contains(part), "{part}\n{table}");
        }
        let lost = table.lines().find(|line| line.contains("lost")).unwrap();
        assert_eq!(lost.split_whitespace().collect::<Vec<_>>(), ["lost", "10", "2", "2-3"]);
    }
}
