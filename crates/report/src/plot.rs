//! The percentile plot: one self-contained SVG, readable in print.
//!
//! The percentile axis grows with the number of nines, since what matters lies at its end; the axis
//! of times is logarithmic where they span more than two decades. Lines differ by dashes as well as
//! by colour.

mod scale;

use std::collections::BTreeSet;

use hdrhistogram::Histogram;
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use crate::group::Group;
use crate::run::{Run, Settings};
use reflector_measure::text::shortened;
use scale::{Axis, Scale};

/// Pixels.
const SIZE: (u32, u32) = (960, 600);
/// Points of a line for each nine.
const STEPS_PER_NINE: usize = 40;
/// Nines that the axis shows at most.
const NINES_MAX: f64 = 8.0;
/// Lines of a plot at most: more cannot be told apart.
const LINES_MAX: usize = 10;
/// The longest name in the legend, in characters.
const NAME_LEN_MAX: usize = 44;
/// What was asked for, at its longest, in characters: sizes may be many.
const ASKED_LEN_MAX: usize = 60;
/// Colours that remain different in grey and for the colour-blind (Okabe and Ito).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];
/// Lengths of dash and gap in pixels; the first is no gap at all.
const DASHES: [(u32, u32); 4] = [(0, 0), (10, 5), (3, 4), (16, 3)];

/// One line.
struct Line<'a> {
    name: String,
    /// Whether it is one file's.
    is_single: bool,
    times_ns: &'a Histogram<u64>,
}

/// Draws the runs that have a histogram: what they come to first, and as many of them as can be
/// told apart. The picture says what it leaves out.
///
/// # Errors
/// In words: there is no histogram to draw.
pub(crate) fn svg(groups: &[Group]) -> Result<String, String> {
    let mut lines = lines(groups);
    let count = lines.len();
    if count == 0 {
        return Err("none of the files has a histogram".to_owned());
    }
    if count > LINES_MAX {
        // Those that stand for several come first, and keep their order.
        lines.sort_by_key(|line| line.is_single);
        lines.truncate(LINES_MAX);
    }
    let title = match groups {
        [only] => format!("{} by percentile", only.kind),
        _ => "times by percentile".to_owned(),
    };
    let mut remarks = vec![target(groups), asked(groups)];
    if count > LINES_MAX {
        remarks.push(format!(
            "{} of {count} lines are left out",
            count - LINES_MAX
        ));
    }
    remarks.retain(|it| !it.is_empty());
    let mut svg = String::new();
    draw(&mut svg, &title, &remarks.join("; "), &lines).map_err(|e| e.to_string())?;
    Ok(svg)
}

/// What all of them asked, if it is one target.
fn target(groups: &[Group]) -> String {
    let runs = groups.iter().filter_map(Group::total);
    let targets: BTreeSet<_> = runs.flat_map(|run| &run.targets).collect();
    match Vec::from_iter(targets)[..] {
        [target] => format!("target {}", shortened(target, NAME_LEN_MAX)),
        _ => String::new(),
    }
}

/// What was asked for, if it was the same of all; otherwise each line says what tells it apart.
fn asked(groups: &[Group]) -> String {
    let settings = groups.iter().filter_map(|it| it.total()?.settings.as_ref());
    let asked: BTreeSet<_> = settings.map(Settings::asked).collect();
    match Vec::from_iter(asked)[..] {
        [ref asked] => format!("asked for {}", shortened(asked, ASKED_LEN_MAX)),
        _ => String::new(),
    }
}

/// Rate and loss of a run, for its line.
fn figures(run: &Run) -> String {
    let name = run.kind.rate_name();
    let rate = run.rate_pps.map(|it| format!("{it:.0} {name}"));
    let loss = run.loss_percent().map(|it| format!("{it:.2} % lost"));
    let figures = Vec::from_iter(rate.into_iter().chain(loss)).join(", ");
    if figures.is_empty() {
        figures
    } else {
        format!(": {figures}")
    }
}

fn lines(groups: &[Group]) -> Vec<Line<'_>> {
    let has_kinds = groups.len() > 1;
    let mut lines = Vec::new();
    for group in groups {
        let runs = group.rows().map(|run| (run, run.name.clone()));
        let baseline = group.baseline.total().into_iter();
        let baseline = baseline.map(|run| (run, format!("baseline: {}", run.name)));
        let apart = match &*group.apart {
            "" => String::new(),
            apart => format!(" ({})", shortened(apart, NAME_LEN_MAX)),
        };
        for (run, name) in runs.chain(baseline) {
            let name = if has_kinds {
                format!("{name}, {}", group.kind)
            } else {
                name
            };
            let times_ns = run.times_ns.as_ref().filter(|it| !it.is_empty());
            lines.extend(times_ns.map(|times_ns| Line {
                name: shortened(&name, NAME_LEN_MAX) + &apart + &figures(run),
                is_single: group.runs.iter().any(|it| it.name == run.name),
                times_ns,
            }));
        }
    }
    lines
}

type Failed = Box<dyn std::error::Error>;

fn draw(svg: &mut String, title: &str, remark: &str, lines: &[Line<'_>]) -> Result<(), Failed> {
    let area: DrawingArea<_, Shift> = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let nines = lines
        .iter()
        .map(|it| nines(it.times_ns))
        .fold(1.0, f64::max);
    let scale = Scale::new(lines.iter().map(|it| it.times_ns));
    // The median is what most readers look for first.
    let median = -0.5_f64.log10();
    let mut x_ticks = vec![0.0, median];
    x_ticks.extend((1..=nines as u32).map(f64::from));
    let area = area.titled(title, ("sans-serif", 22))?;
    let area = match remark {
        "" => area,
        _ => area.titled(remark, ("sans-serif", 15))?,
    };
    let mut chart = ChartBuilder::on(&area)
        .margin(14)
        .margin_right(40)
        .x_label_area_size(52)
        .y_label_area_size(84)
        .build_cartesian_2d(
            Axis::new(0.0..nines, x_ticks.clone()),
            Axis::new(scale.range(), scale.ticks()),
        )?;
    chart
        .configure_mesh()
        .bold_line_style(RGBColor(200, 200, 200))
        .light_line_style(TRANSPARENT)
        .axis_style(BLACK)
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 16))
        .x_labels(x_ticks.len())
        .y_labels(scale.ticks().len())
        .x_desc("percentile (a line ends where it has too few values for the next)")
        .y_desc(scale.title())
        .x_label_formatter(&|&nines| percent(nines))
        .y_label_formatter(&|&y| scale.label(y))
        .draw()?;
    for (index, line) in lines.iter().enumerate() {
        let points = points(line.times_ns, &scale);
        let colour = COLOURS[index % COLOURS.len()];
        let style = colour.stroke_width(2);
        let (dash, gap) = DASHES[index % DASHES.len()];
        if gap == 0 {
            chart
                .draw_series(LineSeries::new(points, style))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 30, y)], style));
        } else {
            chart
                .draw_series(DashedLineSeries::new(points, dash, gap, style))?
                .label(&line.name)
                .legend(move |(x, y)| {
                    DashedPathElement::new([(x, y), (x + 30, y)], dash, gap, style)
                });
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .legend_area_size(38)
        .margin(12)
        .background_style(WHITE.mix(0.9))
        .border_style(RGBColor(120, 120, 120))
        .label_font(("sans-serif", 15))
        .draw()?;
    area.present()?;
    Ok(())
}

/// How many nines there are values enough for.
fn nines(times_ns: &Histogram<u64>) -> f64 {
    (times_ns.len() as f64).log10().clamp(1.0, NINES_MAX)
}

/// A line from the least to the greatest value.
fn points(times_ns: &Histogram<u64>, scale: &Scale) -> Vec<(f64, f64)> {
    let nines = nines(times_ns);
    let steps = (nines * STEPS_PER_NINE as f64).ceil() as usize;
    (0..=steps)
        .map(|step| {
            let x = nines * step as f64 / steps as f64;
            let ns = times_ns.value_at_quantile(1.0 - 10f64.powf(-x));
            (x, scale.at(ns))
        })
        .collect()
}

/// How a percentile with so many nines is written.
fn percent(nines: f64) -> String {
    if (0.2..0.4).contains(&nines) {
        return "50 %".to_owned();
    }
    match nines.round() as usize {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        n => format!("99.{} %", "9".repeat(n - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_written_with_their_nines() {
        let written: Vec<_> = [0.0, 0.301, 1.0, 2.0, 3.0, 5.0].map(percent).into();
        assert_eq!(
            written,
            ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.999 %"]
        );
    }
}
