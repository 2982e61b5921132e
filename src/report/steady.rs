//! Steady state in the report: whether it was attained, by which figures, and the rounds they come from.

use serde_json::{Map, Value, json};

use crate::base::steady::{Limit, Measure, Rule, SNIA_RANGE_PERCENT, SNIA_SLOPE_PERCENT, SteadySpec};
use crate::base::units::format_time_ns;
use crate::job::spec::MeasuringSpec;
use crate::stats::{Round, SteadyFinding};

use super::json::number;
use super::text::{Style, counted, span, wrapped};

/// Most rounds in the report for people; JSON has all.
const ROUNDS_SHOWN: usize = 12;

/// What the search for steady state has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SteadyReport {
    /// Every round so far, the last ones if there were too many.
    pub rounds: Vec<Round>,
    /// Rounds that were too many.
    pub dropped: u64,
    /// When it was attained, in nanoseconds since counting began.
    pub attained_ns: Option<u64>,
    /// What the last window shows; `None` before there was one.
    pub finding: Option<SteadyFinding>,
}

impl SteadyReport {
    /// The rounds of the window that was judged last, or as many as there are.
    fn window(&self, spec: &SteadySpec) -> &[Round] {
        &self.rounds[self.rounds.len().saturating_sub(spec.rounds())..]
    }
}

fn mean(rounds: &[Round], of: fn(&Round) -> f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of rounds")]
    let count = rounds.len().max(1) as f64;
    rounds.iter().map(of).sum::<f64>() / count
}

/// fio's `steadystate`. Where the window was not full, its arrays are as long as there were rounds.
pub(super) fn object(spec: &SteadySpec, report: &SteadyReport) -> Value {
    let finding = report.finding.unwrap_or_default();
    let window = report.window(spec);
    let list = |of: fn(&Round) -> f64| window.iter().map(|round| whole(of(round))).collect::<Vec<_>>();
    let percent = |limit: Option<Limit>| if matches!(limit, Some(Limit::Absolute(_))) { "" } else { "%" };
    let ss = match spec.limit() {
        Some(Limit::Absolute(limit)) => format!("{}:{limit:.6}", spec.criterion()),
        Some(Limit::Percent(limit)) => format!("{}:{limit:.6}%", spec.criterion()),
        None => spec.criterion(),
    };
    let criterion = if report.finding.is_some() { finding.criterion(spec.rule) } else { 0.0 };
    let mut data = Map::new();
    data.insert("bw_mean".to_owned(), whole(mean(window, |round| round.bandwidth)).into());
    data.insert("iops_mean".to_owned(), whole(mean(window, |round| round.iops)).into());
    if spec.measure == Measure::Latency {
        data.insert("lat_mean".to_owned(), whole(mean(window, |round| round.latency_ns)).into());
        data.insert("lat_ns".to_owned(), list(|round| round.latency_ns).into());
    }
    data.insert("iops".to_owned(), list(|round| round.iops).into());
    data.insert("bw".to_owned(), list(|round| round.bandwidth).into());
    json!({
        "ss": ss,
        "duration": spec.duration_ns() / 1_000_000_000,
        "attained": u8::from(report.attained_ns.is_some()),
        "criterion": format!("{criterion:.6}{}", percent(spec.limit())),
        "max_deviation": number(finding.max_deviation),
        "slope": number(finding.slope),
        "data": data,
    })
}

/// All that is known, with its units: what fio's object has no room for.
pub(super) fn own_object(spec: &SteadySpec, report: &SteadyReport) -> Value {
    let rounds: Vec<Value> = report
        .rounds
        .iter()
        .map(|round| {
            json!({
                "at_ns": round.at_ns,
                "length_ns": round.length_ns,
                "iops": number(round.iops),
                "bw_bytes": number(round.bandwidth),
                "clat_ns": number(round.latency_ns),
            })
        })
        .collect();
    let finding = report.finding.map(|finding| {
        json!({
            "mean": number(finding.mean),
            "max_deviation_percent": number(finding.percent(finding.max_deviation)),
            "slope_percent": number(finding.percent(finding.slope)),
            "range_percent": number(finding.percent(finding.range)),
            "excursion_percent": number(finding.percent(finding.excursion)),
        })
    });
    json!({
        "attained_ns": report.attained_ns,
        "round_ns": spec.interval_ns(),
        "window_rounds": spec.rounds(),
        "window": finding,
        "rounds": rounds,
        "rounds_dropped": report.dropped,
    })
}

/// The same for people.
pub(super) fn text(
    measuring: &MeasuringSpec,
    report: &SteadyReport,
    unfinished: bool,
    width: usize,
) -> String {
    let (spec, style) = (&measuring.steady, Style::of(measuring));
    let rounds = counted(spec.rounds() as u64, "round", "rounds");
    let over = format!("over {rounds} of {}", span(spec.interval_ns()));
    let line = match (report.attained_ns, &report.finding) {
        (Some(at_ns), Some(finding)) => {
            format!("attained after {}: {} {over}", span(tenths(at_ns)), figures(spec, finding))
        }
        (_, finding) => {
            let not = if unfinished { "not yet" } else { "NOT ATTAINED" };
            match finding {
                Some(finding) => format!("{not}: at last {} {over}", figures(spec, finding)),
                None => format!("{not}: {} measured, the window has {rounds}", report.rounds.len()),
            }
        }
    };
    let mut out = wrapped("  steadystate: ", &line, width);
    let window = report.window(spec);
    if window.is_empty() {
        return out;
    }
    let mut means = format!(
        "mean of the window: IOPS={}, BW={}",
        style.count(mean(window, |round| round.iops)),
        style.bandwidth(mean(window, |round| round.bandwidth)),
    );
    let latency_ns = mean(window, |round| round.latency_ns);
    if latency_ns > 0.0 {
        means.push_str(&format!(", clat={}", format_time_ns(latency_ns)));
    }
    out.push_str(&wrapped("    ", &means, width));
    out.push_str(&table(spec, report, style));
    out
}

/// The figure that the rule compares, beside its limit.
fn figures(spec: &SteadySpec, finding: &SteadyFinding) -> String {
    let measure = spec.measure.name();
    let value = finding.criterion(spec.rule);
    let (kind, limit) = match spec.rule {
        Rule::Deviation(limit) => ("mean dev", limit),
        Rule::Slope(limit) => ("slope", limit),
        Rule::Snia => {
            return format!(
                "{measure} range {:.1}% (SNIA: at most {SNIA_RANGE_PERCENT}%), slope {:.1}% (at most \
                 {SNIA_SLOPE_PERCENT}%) of the mean",
                finding.percent(finding.range),
                finding.percent(finding.excursion),
            );
        }
    };
    match limit {
        Limit::Percent(limit) => format!("{measure} {kind} {value:.3}% (limit {limit}%)"),
        Limit::Absolute(limit) if spec.measure == Measure::Latency => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!(
                "{measure} {kind} {sign}{} (limit {})",
                format_time_ns(value.abs()),
                format_time_ns(limit)
            )
        }
        Limit::Absolute(limit) => format!("{measure} {kind} {value:.3} (limit {limit})"),
    }
}

/// The last rounds, at least one window of them where they fit.
fn table(spec: &SteadySpec, report: &SteadyReport, style: Style) -> String {
    let shown = report.rounds.len().min(ROUNDS_SHOWN);
    let first = report.rounds.len() - shown;
    let window_mean = mean(
        report.window(spec),
        match spec.measure {
            Measure::Iops => |round| round.iops,
            Measure::Bandwidth => |round| round.bandwidth,
            Measure::Latency => |round| round.latency_ns,
        },
    );
    let mut out = format!(
        "    {:>5}  {:>8}  {:>8}  {:>12}  {:>8}  {:>10}\n",
        "round", "at", "IOPS", "BW", "clat", "from mean"
    );
    for (index, round) in report.rounds.iter().enumerate().skip(first) {
        let off = if window_mean > 0.0 {
            format!("{:+.2}%", 100.0 * (round.of(spec.measure) - window_mean) / window_mean)
        } else {
            "-".to_owned()
        };
        let bandwidth = style.bandwidth(round.bandwidth);
        let clat = if round.latency_ns > 0.0 { format_time_ns(round.latency_ns) } else { "-".to_owned() };
        out.push_str(&format!(
            "    {:>5}  {:>8}  {:>8}  {:>12}  {clat:>8}  {off:>10}\n",
            report.dropped + index as u64 + 1,
            span(tenths(round.at_ns)),
            style.count(round.iops),
            bandwidth.split(' ').next().unwrap_or_default(),
        ));
    }
    let before = report.dropped + first as u64;
    if before > 0 {
        out.push_str(&format!("    {} before them: see json\n", counted(before, "round", "rounds")));
    }
    out
}

/// Nobody reads microseconds behind seconds.
fn tenths(ns: u64) -> u64 {
    if ns < 1_000_000_000 { ns / 1_000_000 * 1_000_000 } else { ns / 100_000_000 * 100_000_000 }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; never negative")]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::judge_steady;

    const SECOND: u64 = 1_000_000_000;

    fn measuring(measure: Measure, rule: Rule) -> MeasuringSpec {
        let steady = SteadySpec { measure, rule, window_ns: 3 * SECOND, ..SteadySpec::default() };
        MeasuringSpec { steady, ..MeasuringSpec::default() }
    }

    fn found(spec: &SteadySpec, rates: &[f64]) -> SteadyReport {
        let round = |(index, &iops): (usize, &f64)| Round {
            at_ns: (index as u64 + 1) * SECOND,
            length_ns: SECOND,
            iops,
            bandwidth: iops * 4096.0,
            latency_ns: 1e9 / iops,
        };
        let rounds: Vec<Round> = rates.iter().enumerate().map(round).collect();
        let finding = judge_steady(spec, &rounds);
        let attained_ns = finding.filter(|found| found.is_steady).map(|_| rates.len() as u64 * SECOND);
        SteadyReport { rounds, dropped: 0, attained_ns, finding }
    }

    #[test]
    fn people_see_the_figure_its_limit_and_the_rounds() {
        let asked = measuring(Measure::Iops, Rule::Deviation(Limit::Percent(5.0)));
        let rates = [9000.0, 1000.0, 990.0, 1010.0];
        let told = text(&asked, &found(&asked.steady, &rates), false, 110);
        assert!(
            told.contains("attained after 4s: iops mean dev 1.000% (limit 5%) over 3 rounds of 1s"),
            "{told}"
        );
        assert!(told.contains("IOPS=1k") && told.contains("+800.00%") && told.contains("-1.00%"), "{told}");
        let asked = measuring(Measure::Latency, Rule::Slope(Limit::Absolute(500.0)));
        let told = text(&asked, &found(&asked.steady, &[1000.0, 1250.0, 2000.0]), false, 110);
        assert!(told.contains("NOT ATTAINED: at last lat slope -250us (limit 500ns)"), "{told}");
        let told = text(&asked, &found(&asked.steady, &[1000.0]), true, 110);
        assert!(told.contains("not yet: 1 measured, the window has 3 rounds"), "{told}");
        let asked = measuring(Measure::Iops, Rule::Snia);
        let told = text(&asked, &found(&asked.steady, &[100.0, 90.0, 100.0, 110.0, 100.0]), false, 110);
        assert!(told.contains("range 20.0% (SNIA: at most 20%), slope 8.0% (at most 10%)"), "{told}");
    }

    #[test]
    fn programs_get_fios_object_and_every_round() {
        let asked = measuring(Measure::Latency, Rule::Slope(Limit::Percent(2.5)));
        let rates = [7000.0, 1000.0, 1000.0, 1000.0];
        let report = found(&asked.steady, &rates);
        let theirs = object(&asked.steady, &report);
        let wanted = json!({
            "ss": "lat_slope:2.500000%", "duration": 3, "attained": 1, "criterion": "0.000000%",
            "max_deviation": 0.0, "slope": 0.0,
            "data": {
                "bw_mean": 4_096_000, "iops_mean": 1000, "lat_mean": 1_000_000,
                "lat_ns": [1_000_000, 1_000_000, 1_000_000], "iops": [1000, 1000, 1000],
                "bw": [4_096_000, 4_096_000, 4_096_000],
            },
        });
        assert_eq!(theirs, wanted);
        assert_eq!(own_object(&asked.steady, &report)["rounds"].as_array().map(Vec::len), Some(4));
        let short = object(&asked.steady, &found(&asked.steady, &rates[..2]));
        assert_eq!((&short["attained"], &short["data"]["iops"]), (&json!(0), &json!([7000, 1000])));
    }
}
