//! What happens in the world is a row of choices, made by a seed or told once more.

use fastrand::Rng;

/// The choices of each step.
pub type Row = Vec<Vec<u32>>;

/// Chooses, and remembers what was chosen. The lowest choice is always the mildest: nothing
/// arrives, nothing fails, nothing is ordered.
pub struct Choices {
    /// One entry for each step that has begun, or that there was the first time.
    row: Row,
    /// The step, and how many of its choices were made.
    step: usize,
    next: usize,
    /// None where `row` is told once more.
    rng: Option<Rng>,
}

impl Choices {
    /// Choices by `seed`.
    pub fn by_seed(seed: u64) -> Self {
        Self {
            row: vec![Vec::new()],
            step: 0,
            next: 0,
            rng: Some(Rng::with_seed(seed)),
        }
    }

    /// Those of `row` once more; what is not in it is the mildest.
    pub fn again(row: Row) -> Self {
        Self {
            row,
            step: 0,
            next: 0,
            rng: None,
        }
    }

    /// A step begins, whose choices do not depend on how many there were in the one before.
    pub fn begin(&mut self) {
        self.step += 1;
        self.next = 0;
        if self.rng.is_some() {
            self.row.push(Vec::new());
        }
    }

    /// One of `0..count`.
    pub fn below(&mut self, count: usize) -> usize {
        let count = count as u32;
        let choice = match &mut self.rng {
            Some(rng) => {
                let choice = rng.u32(0..count);
                self.row[self.step].push(choice);
                choice
            }
            None => {
                let made = self.row.get(self.step).and_then(|it| it.get(self.next));
                made.map_or(0, |choice| choice % count)
            }
        };
        self.next += 1;
        choice as usize
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: usize) -> bool {
        self.below(1000) >= 1000 - per_mille
    }

    /// One of `values`, the mildest first.
    pub fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// Whether what was told has come to its end.
    pub fn is_over(&self) -> bool {
        self.rng.is_none() && self.step >= self.row.len()
    }

    /// All choices until now.
    pub fn into_row(mut self) -> Row {
        self.row.truncate(self.step + 1);
        self.row
    }
}
