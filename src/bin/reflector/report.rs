//! Options of `reflector report`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use reflector_measure::percent::Percent;
use reflector_report::Options;
use reflector_report::unit::Unit;

/// What files may be, and the exit codes, after the help.
pub const AFTER_HELP: &str = "\
FILE is what `reflector --json`, `reflector load --json` or --hdr of either wrote, another tool's
HdrHistogram interval log (V2), percentile table (.hgrm), or a JSON document that carries histograms.
What it is, is told by its content; `-` is stdin.
Every option is an environment variable as well: --svg is REFLECTOR_REPORT_SVG. A variable names
one file.
Exit codes: 0 done; 1 a file could not be read or written, the others are reported; 2 usage; 5 worse
than --max-regression allows.";

/// Options of `reflector report`.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// Saved runs; counts are summed, rates added, histograms merged
    #[arg(
        value_name = "FILE",
        required = true,
        num_args = 1..,
        env = "REFLECTOR_REPORT_FILE"
    )]
    pub file: Vec<PathBuf>,
    /// Compare with this saved run; repeatable, they are merged as well
    #[arg(long, value_name = "FILE", env = "REFLECTOR_REPORT_BASELINE")]
    pub baseline: Vec<PathBuf>,
    /// Fail with 5 if p99 or the rate is worse than the baseline's by more than this, as in 5%
    #[arg(long, value_name = "PERCENT", value_parser = Percent::parse_change, requires = "baseline", env = "REFLECTOR_REPORT_MAX_REGRESSION")]
    pub max_regression: Option<Percent>,
    /// Unit of other tools' times [default: ns in logs and documents, ms in percentile tables]
    #[arg(
        long,
        value_parser = unit_parser(),
        value_name = "ns|us|ms|s",
        hide_possible_values = true,
        env = "REFLECTOR_REPORT_UNIT"
    )]
    pub unit: Option<Unit>,
    /// Draw the times by percentile into this file, as one SVG
    #[arg(long, value_name = "FILE", env = "REFLECTOR_REPORT_SVG")]
    pub svg: Option<PathBuf>,
    /// Print JSON lines
    #[arg(long, env = "REFLECTOR_REPORT_JSON")]
    pub json: bool,
}

impl ReportArgs {
    /// What the arguments come to.
    pub fn options(&self) -> Options {
        Options {
            files: self.file.clone(),
            baseline: self.baseline.clone(),
            max_regression: self.max_regression,
            unit: self.unit,
            svg: self.svg.clone(),
            json: self.json,
        }
    }
}

fn unit_parser() -> impl TypedValueParser<Value = Unit> {
    PossibleValuesParser::new(Unit::ALL.map(Unit::symbol)).map(|symbol| {
        let is_named = |unit: &Unit| unit.symbol() == symbol;
        Unit::ALL
            .into_iter()
            .find(is_named)
            .expect("one of the possible values")
    })
}
