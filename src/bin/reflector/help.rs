//! How a help looks, and what it ends with.

use std::fmt::Write;

use clap::builder::styling::{AnsiColor, Styles};

/// Colours of a help.
pub const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold());

/// Columns of a help: what a terminal has at least, and a page of text at most.
pub const WIDTH: usize = 80;

/// What a help ends with.
pub struct Ending {
    /// What an example does, and its command line.
    pub examples: &'static [(&'static str, &'static str)],
    /// Headings with their paragraphs, which `-h` leaves out. Each is one line, which clap wraps.
    pub sections: &'static [(&'static str, &'static [&'static str])],
}

impl Ending {
    /// The examples.
    pub fn short(&self) -> String {
        let style = STYLES.get_header();
        let mut text = format!("{style}Examples:{style:#}\n");
        for (purpose, line) in self.examples {
            write!(text, "  {purpose}:\n    {line}\n").expect("a string takes all");
        }
        text
    }

    /// The examples and all sections.
    pub fn long(&self) -> String {
        let style = STYLES.get_header();
        let mut text = self.short();
        for (heading, lines) in self.sections {
            write!(text, "\n{style}{heading}:{style:#}\n").expect("a string takes all");
            for line in *lines {
                writeln!(text, "  {line}").expect("a string takes all");
            }
        }
        text
    }
}
