//! What people read: aligned columns, with the unit in each heading. Pure.

use crate::group::Group;
use crate::run::{Kind, Run, Variation};
use crate::verdict::Verdict;
use reflector_measure::quantiles::{PERCENTILES, Quantiles};
use reflector_measure::text::Align::{Left, Right};
use reflector_measure::text::{Table, paragraph, shortened};

/// All of `groups`, and what is `worse` than allowed, in lines of at most `width` columns.
pub(crate) fn page(groups: &[Group], worse: &[String], width: usize) -> String {
    let groups: Vec<_> = groups.iter().map(|it| group(it, width)).collect();
    let mut page = groups.join("\n");
    if !worse.is_empty() {
        page.push('\n');
    }
    for worse in worse {
        page += &paragraph("worse: ", worse, width);
    }
    page
}

fn group(group: &Group, width: usize) -> String {
    let targets: Vec<_> = group
        .total()
        .map(|run| run.targets.iter().map(String::as_str).collect())
        .unwrap_or_default();
    let at = if targets.is_empty() { "" } else { ", target " };
    let apart = if group.apart.is_empty() { "" } else { "; " };
    let (kind, apart_of) = (&group.kind, &group.apart);
    let head = format!("{kind}{at}{}{apart}{apart_of}", targets.join(", "));
    let mut page = paragraph("", &head, width);
    page += &runs(group, width);
    if let Some(total) = group.total().filter(|it| it.value_at(1.0).is_some()) {
        page += &format!("\n{}", percentiles(total, group.baseline.total()));
    }
    let changes = changes(group);
    if changes.width() > 0 {
        page += &format!("\n{changes}");
    }
    for verdict in group.verdicts() {
        page += &paragraph("", &sentence(&verdict), width);
    }
    for note in &group.notes {
        page += &paragraph("note: ", note, width);
    }
    page
}

/// What a test of repetitions says.
fn sentence(verdict: &Verdict) -> String {
    let [before, now] = verdict.repetitions;
    let what = match verdict.verdict {
        "more" => "more than before",
        "less" => "less than before",
        "no_difference" => "no difference that chance would not make",
        _ => "too few repetitions to tell a difference from chance; 4 on each side are enough",
    };
    let probability = verdict.probability.map(|it| format!(", p {it:.3}"));
    format!(
        "{}: {what} (Mann-Whitney, {now} against {before}{})",
        verdict.quantity,
        probability.unwrap_or_default()
    )
}

/// Columns that stay together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Counters,
    Times,
    Variation,
}

impl Part {
    fn heads(self, kind: &Kind) -> Vec<&'static str> {
        match (self, kind) {
            (Self::Counters, Kind::Residence) => {
                vec!["seconds", "received", "replied", "lost %", kind.rate_name()]
            }
            (Self::Counters, _) => {
                vec!["seconds", "sent", "received", "lost %", kind.rate_name()]
            }
            (Self::Times, _) => vec!["p50 us", "p90 us", "p99 us", "p99.9 us", "max us"],
            (Self::Variation, _) => vec!["mean us", "ipdv us"],
        }
    }

    fn cells(self, kind: &Kind, run: &Run) -> Vec<String> {
        match self {
            Self::Counters => {
                let (asked, answered) = match (run.counters, kind) {
                    (None, _) => (None, None),
                    (Some(it), Kind::Residence) => (Some(it.received), Some(it.replied)),
                    (Some(it), _) => (Some(it.sent), Some(it.received)),
                };
                let whole = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
                vec![
                    decimals(Some(run.seconds).filter(|&it| it > 0.0), 3),
                    whole(asked),
                    whole(answered),
                    decimals(run.loss_percent(), 4),
                    decimals(run.rate_pps, 0),
                ]
            }
            Self::Times => {
                let of: [fn(&Quantiles) -> f64; 5] = [
                    |it| it.p50,
                    |it| it.p90,
                    |it| it.p99,
                    |it| it.p99_9,
                    |it| it.max,
                ];
                let times = run.times.as_ref();
                of.map(|of| decimals(times.map(of), 1)).into()
            }
            Self::Variation => {
                let Variation { mean_us, ipdv_us } = run.variation;
                [mean_us, ipdv_us].map(|us| decimals(us, 1)).into()
            }
        }
    }

    /// Whether a run has anything in these columns.
    fn is_of(self, run: &Run) -> bool {
        match self {
            Self::Counters => true,
            Self::Times => run.times.is_some(),
            Self::Variation => run.variation != Variation::default(),
        }
    }
}

/// Columns of the shortest name: they tell something, and have room for `baseline: `.
const NAME_LEN_MIN: usize = 15;

/// Each run, what they come to together, and the baseline: in one table if `width` has room for it,
/// otherwise in one of counters and one or two of times.
fn runs(group: &Group, width: usize) -> String {
    let runs = group.rows().map(|run| ("", run));
    let baseline = group.baseline.total().map(|run| ("baseline: ", run));
    let runs: Vec<_> = runs.chain(baseline).collect();
    let mut parts = vec![Part::Counters, Part::Times, Part::Variation];
    parts.retain(|part| runs.iter().any(|(_, run)| part.is_of(run)));
    let table = |parts: &[Part], name_len| table(&group.kind, parts, &runs, name_len);
    let all = table(&parts, usize::MAX);
    if all.width() <= width {
        return all.to_string();
    }
    let narrowest = |parts: &[Part]| table(parts, NAME_LEN_MIN).width();
    let tables = match &parts[1..] {
        [] => vec![&parts[..]],
        times if narrowest(times) <= width => vec![&parts[..1], times],
        _ => Vec::from_iter(parts.chunks(1)),
    };
    let fitted = |parts: &[Part]| {
        let room = width.saturating_sub(narrowest(parts));
        table(parts, room + NAME_LEN_MIN).fitted(width)
    };
    Vec::from_iter(tables.into_iter().map(fitted)).join("\n")
}

/// A row for each run, with its name in at most `name_len` columns at the end. What went wrong
/// stands below the row's counters.
fn table(kind: &Kind, parts: &[Part], runs: &[(&str, &Run)], name_len: usize) -> Table {
    let heads: Vec<_> = parts.iter().flat_map(|it| it.heads(kind)).collect();
    let mut table = Table::new(heads.iter().map(|_| Right).chain([Left]));
    let heads = heads.into_iter().map(str::to_owned);
    table.push(heads.chain(["file".to_owned()]).collect());
    for (role, run) in runs {
        let cells = parts.iter().flat_map(|it| it.cells(kind, run));
        let name = shortened(&run.name, name_len.saturating_sub(role.len()));
        table.push(cells.chain([format!("{role}{name}")]).collect());
        if parts.contains(&Part::Counters) {
            for (count, what) in wrong(run) {
                table.row(&[&"", &count, &what]);
            }
        }
    }
    table
}

fn decimals(number: Option<f64>, digits: usize) -> String {
    number.map_or("-".to_owned(), |number| format!("{number:.digits$}"))
}

/// What went wrong in a run, and how often.
fn wrong(run: &Run) -> impl Iterator<Item = (u64, &'static str)> {
    let counters = run.counters.unwrap_or_default();
    [
        (counters.wrong_source, "answered from a wrong address"),
        (counters.refused, "refused by the sender's own kernel"),
        (counters.kernel_drops, "dropped: receive buffers were full"),
    ]
    .into_iter()
    .filter(|&(count, _)| count > 0)
}

fn percentiles(now: &Run, baseline: Option<&Run>) -> Table {
    let mut table = Table::new([Right, Right, Right]);
    let baseline = baseline.filter(|it| it.value_at(1.0).is_some());
    match baseline {
        Some(_) => table.row(&[&"percentile", &"us", &"baseline us"]),
        None => table.row(&[&"percentile", &"us", &""]),
    }
    for (quantile, percent) in PERCENTILES {
        let Some(us) = now.value_at(quantile) else {
            continue;
        };
        let before = baseline.map(|it| decimals(it.value_at(quantile), 1));
        table.row(&[
            &percent,
            &decimals(Some(us), 1),
            &before.unwrap_or_default(),
        ]);
    }
    table
}

fn changes(group: &Group) -> Table {
    let changes = group.changes();
    let mut table = Table::new([Left, Right, Right, Right, Left]);
    if !changes.is_empty() {
        table.row(&[&"", &"baseline", &"now", &"change", &""]);
    }
    for it in changes {
        let (digits, unit) = if it.is_points {
            (4, "points")
        } else {
            (1, "%")
        };
        let change = match it.change {
            change if change.is_finite() => format!("{change:+.digits$}"),
            _ => "-".to_owned(),
        };
        let [baseline, now] = [it.baseline, it.now].map(|value| decimals(Some(value), digits));
        table.row(&[&it.quantity, &baseline, &now, &change, &unit]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::gather;
    use crate::histogram::Sum;
    use crate::run::Counters;
    use crate::unit::Unit;

    /// Ten seconds at 12 million a second.
    fn run(name: &str, kind: Kind) -> Run {
        let mut times = Sum::new();
        times.record(1_234_567, 119_000_000);
        times.record(60_000_000_000, 1_000_000);
        let mut run = Run::of_times(name.to_owned(), kind, 10.0, times.into_ns(Unit::Ns));
        run.counters = Some(Counters {
            sent: 120_000_000,
            received: 119_000_000,
            replied: 118_000_000,
            lost: 1_000_000,
            refused: 12_345_678,
            ..Counters::default()
        });
        run.rate_pps = Some(11_900_000.0);
        run.variation.mean_us = Some(1234.5);
        run
    }

    fn long_name(name: &str) -> String {
        format!("/srv/measurements/2026/{}/{name}", "x".repeat(60))
    }

    fn written(kind: &Kind, width: usize) -> String {
        let [a, mut b] = ["a.hlog", "b.hlog"].map(|name| run(&long_name(name), kind.clone()));
        b.seconds = 10.0001;
        let baseline = run("old.hlog", kind.clone());
        page(&gather(vec![a, b], vec![baseline]), &[], width)
    }

    fn longest(text: &str) -> usize {
        let lines = text.lines().map(|line| line.chars().count());
        lines.max().unwrap_or(0)
    }

    #[test]
    fn a_page_fits_its_terminal_and_uses_it() {
        for kind in [Kind::RoundTrip, Kind::Residence] {
            let narrow = written(&kind, 80);
            assert!(longest(&narrow) <= 80, "{narrow}");
            let narrower = written(&kind, 60);
            assert!(longest(&narrower) <= 60, "{narrower}");
            assert!(narrow.contains("xx/a.hlog\n"), "{narrow}");
            assert!(narrow.contains("\n  mean us  ipdv us  file\n"), "{narrow}");
            let wide = written(&kind, 200);
            assert!((81..=200).contains(&longest(&wide)), "{wide}");
            assert!(wide.contains(&long_name("a.hlog")), "{wide}");
        }
    }

    #[test]
    fn no_number_runs_into_the_next_at_twelve_million_a_second() {
        let mut run = run("a", Kind::RoundTrip);
        run.variation = Variation::default();
        let text = page(&gather(vec![run], Vec::new()), &[], 80);
        let expected = "\
round trip
  seconds       sent   received  lost %  received/s  file
   10.000  120000000  119000000  0.8333    11900000  a
            12345678  refused by the sender's own kernel

  p50 us  p90 us  p99 us    p99.9 us      max us  file
  1234.9  1234.9  1234.9  60028878.8  60028878.8  a
";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let mut other = run("a", Kind::HighestRate("1".to_owned()));
        (other.counters, other.times, other.times_ns) = (None, None, None);
        other.variation = Variation::default();
        let text = page(&gather(vec![other], Vec::new()), &["p99".to_owned()], 80);
        assert!(
            text.contains("   10.000     -         -       -   11900000  a\n"),
            "{text}"
        );
        assert!(!text.contains("percentile"), "{text}");
        assert!(text.ends_with("\nworse: p99\n"), "{text}");
    }
}
