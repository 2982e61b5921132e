//! The table of latencies in the report for people.

use crate::job::spec::MeasuringSpec;
use crate::stats::Histogram;

/// Percentiles of the table where the job does not say which.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];
/// Width of a line's label.
const LABEL: usize = 10;
/// Narrowest column.
const NARROWEST: usize = 6;

/// One line of the table.
pub(super) struct Row<'a> {
    label: &'a str,
    histogram: &'a Histogram,
    /// Its percentiles are wanted.
    percentiles: bool,
}

impl Row<'_> {
    /// A line for `histogram`, of which nothing is shown if it is empty.
    pub(super) fn new<'a>(label: &'a str, histogram: &'a Histogram, percentiles: bool) -> Row<'a> {
        Row { label, histogram, percentiles }
    }
}

/// A unit for a whole table, so that a column of numbers can be compared by their lengths.
struct Unit {
    heading: &'static str,
    ns: f64,
    decimals: usize,
}

impl Unit {
    fn of(typical_ns: u64) -> Unit {
        match typical_ns {
            0..10_000 => Unit { heading: "latency ns", ns: 1.0, decimals: 0 },
            10_000..100_000 => Unit { heading: "latency us", ns: 1e3, decimals: 2 },
            100_000..10_000_000 => Unit { heading: "latency us", ns: 1e3, decimals: 1 },
            _ => Unit { heading: "latency ms", ns: 1e6, decimals: 3 },
        }
    }

    fn cell(&self, ns: f64) -> String {
        let text = format!("{:.*}", self.decimals, ns / self.ns);
        if text.len() <= 10 { text } else { format!("{:.2e}", ns / self.ns) }
    }
}

/// One column: its heading and its cells.
type Column = Vec<String>;

/// The rows that are not empty, with as many lines below each other as the percentiles need.
pub(super) fn latency_table(rows: &[Row<'_>], measuring: &MeasuringSpec, width: usize) -> String {
    let rows: Vec<&Row<'_>> = rows.iter().filter(|row| row.histogram.count() > 0).collect();
    let Some(whole) = rows.last() else { return String::new() };
    let unit = Unit::of(whole.histogram.percentile(50.0));
    let told = rows.iter().any(|row| row.percentiles);
    let list = measuring.percentiles.as_deref().unwrap_or(&PERCENTILES);
    let column = |heading: String, cell: &dyn Fn(&Row<'_>) -> String| -> Column {
        std::iter::once(heading).chain(rows.iter().map(|row| cell(row))).collect()
    };
    let mut columns = vec![
        column("mean".to_owned(), &|row| unit.cell(row.histogram.mean())),
        column("stdev".to_owned(), &|row| unit.cell(row.histogram.stddev())),
    ];
    #[expect(clippy::cast_precision_loss, reason = "at most eleven characters are printed")]
    {
        for percent in list.iter().filter(|_| told) {
            columns.push(column(format!("p{percent}"), &|row| {
                if row.percentiles {
                    unit.cell(row.histogram.percentile(*percent) as f64)
                } else {
                    "-".to_owned()
                }
            }));
        }
        columns.push(column("max".to_owned(), &|row| unit.cell(row.histogram.max() as f64)));
    }
    let labels: Column =
        std::iter::once(unit.heading).chain(rows.iter().map(|row| row.label)).map(str::to_owned).collect();
    laid_out(&labels, &columns, width)
}

/// Columns side by side, as many as there is room for, the rest below them.
fn laid_out(labels: &[String], columns: &[Column], width: usize) -> String {
    let mut out = String::new();
    let mut left = columns;
    while !left.is_empty() {
        let mut used = 4 + LABEL;
        let mut taken = 0;
        for column in left {
            used += 2 + width_of(column);
            if used > width && taken > 0 {
                break;
            }
            taken += 1;
        }
        let (now, later) = left.split_at(taken);
        for (line, label) in labels.iter().enumerate() {
            let cells: Vec<String> = now
                .iter()
                .map(|column| format!("{:>width$}", column[line], width = width_of(column)))
                .collect();
            out.push_str(&format!("    {label:>LABEL$}  {}\n", cells.join("  ")));
        }
        left = later;
    }
    out
}

fn width_of(column: &Column) -> usize {
    column.iter().map(String::len).max().unwrap_or(0).max(NARROWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram() -> Histogram {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.record(value * 100));
        histogram
    }

    #[test]
    fn many_percentiles_go_on_below_each_other_and_none_is_lost() {
        let histogram = histogram();
        let list: Vec<f64> = (1..=20).map(|n| 99.0 + f64::from(n) / 1000.0).collect();
        let measuring = MeasuringSpec { percentiles: Some(list), ..MeasuringSpec::default() };
        let table = latency_table(&[Row::new("lat", &histogram, true)], &measuring, 110);
        assert!(table.lines().all(|line| line.len() <= 110) && table.lines().count() >= 4, "{table}");
        for wanted in ["mean", "p99.001", "p99.02", "max"] {
            assert!(table.contains(wanted), "{wanted} in\n{table}");
        }
    }

    #[test]
    fn percentiles_that_are_not_wanted_are_not_there() {
        let histogram = histogram();
        let measuring = MeasuringSpec::default();
        let rows = [Row::new("clat", &histogram, false), Row::new("lat", &histogram, true)];
        let table = latency_table(&rows, &measuring, 110);
        assert_eq!(table.lines().nth(1).unwrap().matches(" -").count(), 5, "{table}");
        let table = latency_table(&rows[..1], &measuring, 110);
        assert!(table.contains("mean") && table.contains("max") && !table.contains("p50"), "{table}");
    }
}
