//! Stdout, as text or as JSON lines.

use std::io::{self, Write};

use crate::json;
use crate::page::Page;
use crate::show::{Outcome, Show};
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::output::written;
use reflector_measure::text;

/// Prints one case after the other.
pub(crate) struct Printer {
    out: anstream::AutoStream<io::Stdout>,
    /// `None` prints JSON.
    page: Option<Page>,
}

impl Printer {
    /// A printer of JSON lines, or of text as wide as the terminal, or as 80 columns.
    pub(crate) fn new(is_json: bool) -> Self {
        let stdout = io::stdout();
        let width = text::width(&stdout);
        Self {
            out: anstream::AutoStream::auto(stdout),
            page: (!is_json).then(|| Page::new(width)),
        }
    }

    /// What is about to be shown.
    ///
    /// # Errors
    /// `ENOSPC` or `EIO` of stdout, here as below.
    pub(crate) fn begin(&mut self, show: &Show) -> Result<(), Error> {
        match &self.page {
            Some(page) => self.print(&page.opening(show)),
            None => Ok(()),
        }
    }

    /// One case.
    pub(crate) fn case(&mut self, show: &Show, outcome: &Outcome) -> Result<(), Error> {
        match &self.page {
            Some(page) => self.print(&page.case(show, outcome)),
            None => written(json::case(show, outcome, &mut self.out)),
        }
    }

    /// All cases.
    pub(crate) fn end(
        &mut self,
        show: &Show,
        outcomes: &[Outcome],
        exit: Exit,
    ) -> Result<(), Error> {
        match &self.page {
            Some(page) => self.print(&page.closing(show, outcomes, exit)),
            None => Ok(()),
        }
    }

    fn print(&mut self, text: &str) -> Result<(), Error> {
        let result = self.out.write_all(text.as_bytes());
        written(result.and_then(|()| self.out.flush()))
    }
}
