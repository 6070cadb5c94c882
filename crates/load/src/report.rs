//! The report on stdout: a page for people, or JSON lines for programs.

use std::io::{self, Write};

use crate::find_rate::{Found, Step};
use crate::page;
use crate::plan::{Offer, Plan};
use crate::ready::Ready;
use crate::run::{Interval, Outcome};
use crate::summary::Summary;
use crate::totals::Totals;
use reflector_measure::error::Error;
use reflector_measure::json::write_line;
use reflector_measure::output::written;

/// Writes the report. `ENOSPC` and `EIO` of stdout are errors; a pipe that nobody reads any more is
/// none.
pub(crate) struct Reporter<W> {
    out: W,
    form: Form,
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A page for people, of so many columns.
    Page(usize),
    /// JSON lines.
    Json,
}

impl<W: Write> Reporter<W> {
    /// A reporter that writes to `out`.
    pub(crate) fn new(out: W, form: Form) -> Self {
        Self { out, form }
    }

    /// Says what is going to be done.
    pub(crate) fn ready(&mut self, plan: &Plan) -> Result<(), Error> {
        let ready = Ready::new(plan);
        let result = match self.form {
            Form::Json => write_line(&mut self.out, "ready", &ready),
            Form::Page(width) => self.text(&page::opening(&ready, width)),
        };
        written(result)
    }

    /// Reports an interval, if `plan` wants that.
    pub(crate) fn interval(
        &mut self,
        plan: &Plan,
        offer: &Offer,
        interval: &Interval<'_>,
    ) -> Result<(), Error> {
        if !plan.reports_intervals() {
            return Ok(());
        }
        let totals = Totals::of_interval(plan, offer, interval);
        let result = match self.form {
            Form::Json => write_line(&mut self.out, "interval", &totals),
            Form::Page(width) => {
                self.text(&(page::interval(plan, &totals, interval, width) + "\n"))
            }
        };
        written(result)
    }

    /// Reports the whole measurement.
    pub(crate) fn summary(
        &mut self,
        plan: &Plan,
        summary: &Summary,
        outcome: &Outcome,
    ) -> Result<(), Error> {
        let result = match self.form {
            Form::Json => write_line(&mut self.out, "summary", summary),
            Form::Page(width) => self.text(&page::summary(plan, summary, outcome, width)),
        };
        written(result)
    }

    /// Reports one step of a search.
    pub(crate) fn step(&mut self, step: &Step, is_first: bool) -> Result<(), Error> {
        let result = match self.form {
            Form::Json => write_line(&mut self.out, "step", step),
            Form::Page(width) => self.text(&page::step(step, is_first, width)),
        };
        written(result)
    }

    /// Reports what a search found.
    pub(crate) fn found(&mut self, found: &Found) -> Result<(), Error> {
        let result = match self.form {
            Form::Json => write_line(&mut self.out, "found_rate", found),
            Form::Page(width) => self.text(&page::found(found, width)),
        };
        written(result)
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}
