//! Styled lines, whose width is known without their styles.

use anstyle::{AnsiColor, Style};
use textwrap::WordSplitter;

/// No style at all.
pub(crate) const PLAIN: Style = Style::new();
/// Names and headings.
pub(crate) const BOLD: Style = Style::new().bold();
/// What may be overlooked.
pub(crate) const DIM: Style = Style::new().dimmed();
/// As it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// As it should not.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Neither.
pub(crate) const DOUBTFUL: Style = AnsiColor::Yellow.on_default().bold();

/// A line of spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Vec<(Style, String)>);

impl Line {
    /// A line of one span.
    pub(crate) fn of(style: Style, text: impl Into<String>) -> Self {
        Self(vec![(style, text.into())])
    }

    /// The line with a span after it.
    #[must_use]
    pub(crate) fn and(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// The line with another after it.
    #[must_use]
    pub(crate) fn then(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The line with spaces after it, up to `width`.
    #[must_use]
    pub(crate) fn padded(self, width: usize) -> Self {
        let missing = width.saturating_sub(self.width());
        self.and(PLAIN, " ".repeat(missing))
    }

    /// Columns that it takes; every character takes one.
    pub(crate) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// The line with its styles as escape sequences, without spaces at its end.
    pub(crate) fn render(&self) -> String {
        let mut spans = self.0.clone();
        while let Some((_, text)) = spans.last_mut() {
            text.truncate(text.trim_end().len());
            if !text.is_empty() {
                break;
            }
            spans.pop();
        }
        let mut line = String::new();
        for (style, text) in spans {
            line += &format!("{style}{text}{style:#}");
        }
        line
    }
}

/// `text` in lines of at most `width`.
pub(crate) fn wrapped(style: Style, text: &str, width: usize) -> Vec<Line> {
    hung(PLAIN, "", style, text, width)
}

/// `text` in lines of at most `width` that begin below each other after `label`.
///
/// Spaces at the beginning of `text` indent its first line.
pub(crate) fn hung(
    label_style: Style,
    label: &str,
    style: Style,
    text: &str,
    width: usize,
) -> Vec<Line> {
    let indent = label.chars().count();
    let room = width.saturating_sub(indent).max(1);
    // An option such as --payload-hex is one word.
    let options = textwrap::Options::new(room).word_splitter(WordSplitter::NoHyphenation);
    textwrap::wrap(text, options)
        .into_iter()
        .enumerate()
        .map(|(index, line)| {
            let line = line.into_owned();
            if index == 0 {
                Line::of(label_style, label).and(style, line)
            } else {
                Line::of(PLAIN, " ".repeat(indent)).and(style, line)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_take_no_room() {
        let line = Line::of(BAD, "wrong").and(PLAIN, " ").and(GOOD, "→ right");
        assert_eq!(line.width(), 13);
        let text = line.padded(20).render();
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "wrong → right"
        );
    }

    #[test]
    fn paragraphs_hang_from_their_label() {
        let lines = hung(BOLD, "client  ", PLAIN, "waited a second in vain", 20);
        let texts: Vec<String> = lines
            .iter()
            .map(|line| anstream::adapter::strip_str(&line.render()).to_string())
            .collect();
        assert_eq!(
            texts,
            ["client  waited a", "        second in", "        vain"]
        );
    }
}
