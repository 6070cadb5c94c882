//! The shortest story of a failure.
//!
//! A life is a row of steps with their choices, and the mildest of each is 0: whatever is left out
//! of the row, and whatever in it is made 0, leaves a life. So steps are made mild, then left out,
//! then made mild in part, as long as the failure stays the same; many at once first. (proptest
//! shrinks a vector element by element, which for a row of ten thousand choices takes thousands of
//! lives before the first half is gone; and it does not know where a step begins, so that one
//! choice less gives all others another meaning.)

use super::choices::{Choices, Row};
use super::run::{Failure, live};
use super::watched::Mistake;

/// Lives that are tried at most.
const LIVES_MAX: usize = 4000;

/// The life with the fewest steps that fails as `failure` did, as far as is found, and its story.
pub fn shortest(failure: &Failure, steps_max: usize, mistake: Option<Mistake>) -> Box<Failure> {
    let mut search = Search {
        kind: kind(&failure.what),
        best: failure.row.clone(),
        lives: 0,
        steps_max,
        mistake,
    };
    while search.make_mild() | search.leave_out() {}
    while search.make_milder() {}
    let choices = Choices::again(search.best);
    let told = live(choices, steps_max, mistake, true);
    told.err().expect("it failed before")
}

struct Search {
    kind: String,
    best: Row,
    lives: usize,
    steps_max: usize,
    mistake: Option<Mistake>,
}

impl Search {
    /// Leaves steps out, halves of all first.
    fn leave_out(&mut self) -> bool {
        self.by_blocks(|row, start, end| drop(row.drain(start..end)))
    }

    /// Makes steps mild.
    fn make_mild(&mut self) -> bool {
        self.by_blocks(|row, start, end| row[start..end].iter_mut().for_each(Vec::clear))
    }

    fn by_blocks(&mut self, change: impl Fn(&mut Row, usize, usize)) -> bool {
        let mut is_better = false;
        let mut len = self.best.len().next_power_of_two();
        while len > 0 {
            let mut end = self.best.len();
            let before = self.best.len();
            while end > 0 {
                let start = end.saturating_sub(len);
                let mut row = self.best.clone();
                change(&mut row, start, end);
                is_better |= row != self.best && self.fails(row);
                // What fails earlier is shorter.
                end = start.min(self.best.len());
            }
            if self.best.len() == before {
                len /= 2;
            }
        }
        is_better
    }

    /// Makes single choices mild, the last of each step first.
    fn make_milder(&mut self) -> bool {
        let mut is_better = false;
        for step in (0..self.best.len()).rev() {
            let choices = self.best.get(step).map_or(0, Vec::len);
            for choice in (0..choices).rev() {
                let Some(made) = self.best.get(step).and_then(|it| it.get(choice)) else {
                    continue;
                };
                if *made > 0 {
                    let mut row = self.best.clone();
                    row[step][choice] = 0;
                    is_better |= self.fails(row);
                }
            }
        }
        is_better
    }

    /// Whether `row` fails in the same way; then it is the best.
    fn fails(&mut self, mut row: Row) -> bool {
        if self.lives >= LIVES_MAX {
            return false;
        }
        self.lives += 1;
        let choices = Choices::again(row.clone());
        match live(choices, self.steps_max, self.mistake, false) {
            Err(failure) if kind(&failure.what) == self.kind => {
                row.truncate(failure.row.len());
                self.best = row;
                true
            }
            _ => false,
        }
    }
}

/// What failed, without the numbers in which one story differs from another.
fn kind(what: &str) -> String {
    let what = what.lines().next().unwrap_or_default();
    let has_digit = |it: &str| it.contains(|c: char| c.is_ascii_digit());
    let words = what.split(' ').filter(|it| !has_digit(it));
    words.take(6).collect::<Vec<_>>().join(" ")
}
