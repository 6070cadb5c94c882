//! `reflector report`: its options, as typed, and what they come to.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::percent::Percent;
use reflector_report::Options;
use reflector_report::unit::UnitOf;

use crate::help::Ending;
use crate::values::{List, list};

/// What the help ends with.
const ENDING: Ending = Ending {
    examples: &[
        (
            "Merge the runs of two machines that loaded one target",
            "reflector report a.json a.hlog b.json b.hlog",
        ),
        (
            "Fail in CI if p99 or the rate is more than 5 % worse than before",
            "reflector report now.json -b old.json --max-regression 5",
        ),
        (
            "Plot the percentiles of two runs",
            "reflector report now.hlog -b old.hlog --svg p.svg",
        ),
    ],
    sections: &[
        (
            "Files",
            &[
                "FILE is what --json or --hdr of 'reflector' or 'reflector load' wrote, or \
                 another tool's HdrHistogram interval log (V2), percentile table (.hgrm) or \
                 JSON document with histograms. The content tells which. - is stdin.",
            ],
        ),
        (
            "Environment",
            &[
                "A variable sets an option: REFLECTOR_REPORT_SVG sets --svg.",
                "1 sets a flag. A variable names one file. The command line wins.",
            ],
        ),
        (
            "Exit status",
            &[
                "0  done",
                "1  a file could not be read or written; the others are reported",
                "2  wrong usage",
                "5  worse than --max-regression allows",
            ],
        ),
    ],
};

/// Merge, compare and plot saved runs
///
/// Counts are summed, rates added, histograms merged.
#[derive(Args, Clone, Debug)]
#[command(after_help = ENDING.short(), after_long_help = ENDING.long())]
pub struct ReportArgs {
    /// Saved runs to merge
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    file: Vec<PathBuf>,
    /// Compare with this saved run; repeatable, all are merged
    #[arg(short, long, value_name = "FILE")]
    baseline: Vec<PathBuf>,
    /// Exit with 5 if p99 or rate is this much worse
    ///
    /// A percentage of the baseline, such as 5.
    #[arg(long, value_name = "PERCENT")]
    #[arg(value_parser = Percent::parse_change, requires = "baseline")]
    max_regression: Option<Percent>,
    /// Unit of other tools' times: ns, us, ms or s
    ///
    /// Where a file does not say, times are ns in HdrHistogram logs and JSON documents, ms in
    /// percentile tables. For files of several forms say which: log=us, table=ms or json=us,
    /// separated by commas.
    #[arg(long, value_name = "UNIT", value_parser = list(UnitOf::from_str))]
    unit: Vec<List<UnitOf>>,
    /// Plot the percentiles into FILE, as one SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON lines instead of text
    #[arg(short, long)]
    json: bool,
}

impl ReportArgs {
    fn options(&self) -> Options {
        Options {
            files: self.file.clone(),
            baseline: self.baseline.clone(),
            max_regression: self.max_regression,
            units: self.unit.iter().flat_map(|it| it.0.clone()).collect(),
            svg: self.svg.clone(),
            json: self.json,
        }
    }
}

/// Reports on the files.
pub fn run(args: &ReportArgs) -> Result<Exit, Error> {
    reflector_report::run(&args.options())
}
