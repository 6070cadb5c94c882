//! What a reflector with `--echo-info` tells of the way to it: where datagrams were lost, came
//! twice or overtook each other, and what changed. Pure.

use std::net::SocketAddr;

use serde::Serialize;

use reflector_measure::echo_info::{Count, EchoInfo};

/// Counts that are remembered one by one; of more, the oldest are summed up.
const COUNTS_MAX: usize = 16;
/// Changes that are reported one by one.
const CHANGES_MAX: usize = 64;

/// What was told of all answers.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Answers that told something, each to another datagram.
    answers: u64,
    counts: Vec<Counted>,
    /// The same of counts that are forgotten.
    earlier: Directions,
    last: Option<EchoInfo>,
    /// Answers to datagrams that had come before.
    came_again: u64,
    /// Answers to datagrams that were overtaken on their way.
    came_late: u64,
    changes: u64,
    first_changes: Vec<Change>,
}

/// A count of the server, as it was told last.
#[derive(Clone, Copy, Debug)]
struct Counted {
    count: Count,
    /// The last datagram that it told of.
    last: u64,
}

/// How many datagrams are accounted for by counts, and how many of them did not come there.
#[derive(Clone, Copy, Debug, Default)]
struct Directions {
    span: u64,
    lost_there: u64,
}

/// Something that was otherwise than before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    /// When the answer came that told of it.
    pub(crate) unix_seconds: f64,
    /// What: `peer` and `local` are addresses as the server sees them, `hops` those that are left,
    /// `count` is another process or worker, or one that had forgotten.
    pub(crate) what: &'static str,
    /// As it was before.
    pub(crate) from: String,
    /// As it is now.
    pub(crate) to: String,
}

/// The summary of what was told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// Datagrams that never came to the server.
    pub(crate) lost_there: u64,
    /// Datagrams that came to the server, and whose answer did not come in time.
    pub(crate) lost_back: u64,
    /// Unanswered datagrams that no count knows of: those around a restart, and the last ones.
    pub(crate) lost_unknown: u64,
    /// Datagrams that came to the server more than once; other duplicates are of answers.
    pub(crate) duplicated_there: u64,
    /// Datagrams that came after a later one.
    pub(crate) reordered_there: u64,
    /// This host as the server saw it last.
    pub(crate) peer: SocketAddr,
    /// The address that was asked, as the server saw it last.
    pub(crate) local: SocketAddr,
    /// Hops that were left at last.
    pub(crate) hops: Option<u8>,
    /// How often something changed.
    pub(crate) changes: u64,
    /// The first changes.
    pub(crate) first_changes: Vec<Change>,
}

impl Told {
    /// Takes note of an answer that came at `now_ns`, the first one or not. `on_change` is told
    /// of what is otherwise than before.
    pub(crate) fn answer(
        &mut self,
        info: &EchoInfo,
        is_first: bool,
        now_ns: u64,
        on_change: &mut impl FnMut(&Change),
    ) {
        self.came_again += u64::from(info.is_again);
        if !is_first {
            return;
        }
        self.answers += 1;
        self.came_late += u64::from(info.is_late);
        if let Some(last) = self.last.replace(*info) {
            let hops = |it: &EchoInfo| it.hops.map_or("unknown".to_owned(), |it| it.to_string());
            let name = |it: &EchoInfo| format!("{:016x}", it.count.name);
            for (what, from, to) in [
                ("peer", last.peer.to_string(), info.peer.to_string()),
                ("local", last.local.to_string(), info.local.to_string()),
                ("hops", hops(&last), hops(info)),
                ("count", name(&last), name(info)),
            ] {
                // Workers that take turns count beside each other.
                let is_known = what == "count" && self.knows(info);
                if from != to && !is_known {
                    let unix_seconds = (now_ns / 1000) as f64 / 1e6;
                    self.change(
                        Change {
                            unix_seconds,
                            what,
                            from,
                            to,
                        },
                        on_change,
                    );
                }
            }
        }
        self.count(info);
    }

    fn knows(&self, info: &EchoInfo) -> bool {
        self.counts
            .iter()
            .any(|it| it.count.name == info.count.name)
    }

    fn change(&mut self, change: Change, on_change: &mut impl FnMut(&Change)) {
        on_change(&change);
        self.changes += 1;
        if self.first_changes.len() < CHANGES_MAX {
            self.first_changes.push(change);
        }
    }

    fn count(&mut self, info: &EchoInfo) {
        let known = self
            .counts
            .iter_mut()
            .find(|it| it.count.name == info.count.name);
        if let Some(known) = known {
            // Answers overtake each other.
            known.count.first = known.count.first.min(info.count.first);
            known.count.count = known.count.count.max(info.count.count);
            known.last = known.last.max(info.sequence);
            return;
        }
        if self.counts.len() == COUNTS_MAX {
            self.counts.sort_by_key(|it| it.count.first);
            let first = group_len(&self.counts);
            self.earlier.add(&self.counts[..first]);
            self.counts.drain(..first);
        }
        self.counts.push(Counted {
            count: info.count,
            last: info.sequence,
        });
    }

    /// What there is to say where `unanswered` datagrams had no answer; `None` where nothing was
    /// told.
    pub(crate) fn summary(&self, unanswered: u64) -> Option<Summary> {
        let last = self.last?;
        let mut counts = self.counts.clone();
        counts.sort_by_key(|it| it.count.first);
        let mut directions = self.earlier;
        directions.add(&counts);
        let lost_there = directions.lost_there.min(unanswered);
        let came = directions.span.saturating_sub(directions.lost_there);
        let lost_back = came
            .saturating_sub(self.answers)
            .min(unanswered - lost_there);
        Some(Summary {
            lost_there,
            lost_back,
            lost_unknown: unanswered - lost_there - lost_back,
            duplicated_there: self.came_again,
            reordered_there: self.came_late,
            peer: last.peer,
            local: last.local,
            hops: last.hops,
            changes: self.changes,
            first_changes: self.first_changes.clone(),
        })
    }
}

impl Directions {
    /// Adds what `counts`, sorted by where they begin, account for. Those that overlap are of
    /// workers that take turns: each datagram comes to one of them.
    fn add(&mut self, mut counts: &[Counted]) {
        while let Some(first) = counts.first() {
            let (group, rest) = counts.split_at(group_len(counts));
            let last = group.iter().map(|it| it.last).max().unwrap_or(0);
            let span = last.saturating_sub(first.count.first) + 1;
            let came: u64 = group.iter().map(|it| it.count.count).sum();
            self.span += span;
            self.lost_there += span.saturating_sub(came);
            counts = rest;
        }
    }
}

/// How many of `counts`, sorted by where they begin, overlap the first, or one that does.
fn group_len(counts: &[Counted]) -> usize {
    let mut last = 0;
    for (index, counted) in counts.iter().enumerate() {
        if index > 0 && counted.count.first > last {
            return index;
        }
        last = last.max(counted.last);
    }
    counts.len()
}

#[cfg(test)]
mod tests {
    use reflector_measure::echo_info;

    use super::*;

    /// A server as `name`, which has seen `came` datagrams from `first` on, tells of `sequence`.
    fn info(name: u64, first: u64, came: u64, sequence: u64) -> EchoInfo {
        let mut block = [0; echo_info::BLOCK_LEN];
        echo_info::ask(&mut block, 7, sequence);
        block[25] = 1;
        block[26..28].copy_from_slice(&40_000_u16.to_be_bytes());
        block[28..30].copy_from_slice(&9007_u16.to_be_bytes());
        block[30] = 64;
        block[32..40].copy_from_slice(&name.to_be_bytes());
        block[40..48].copy_from_slice(&first.to_be_bytes());
        block[48..56].copy_from_slice(&came.to_be_bytes());
        block[71] = 1;
        block[87] = 2;
        echo_info::told(&block).unwrap()
    }

    /// There, back and unknown, of `unanswered` in all.
    fn lost(told: &Told, unanswered: u64) -> [u64; 3] {
        let it = told.summary(unanswered).unwrap();
        [it.lost_there, it.lost_back, it.lost_unknown]
    }

    fn answered(infos: &[EchoInfo]) -> (Told, Vec<Change>) {
        let (mut told, mut changes) = (Told::default(), Vec::new());
        for info in infos {
            told.answer(info, true, 1_500_000, &mut |it| changes.push(it.clone()));
        }
        (told, changes)
    }

    #[test]
    fn a_loss_has_its_direction() {
        // 0, 1 and 5 are answered; 2 did not come, 3 and 4 did; of 6 and 7 nobody knows.
        let (told, changes) = answered(&[info(1, 0, 1, 0), info(1, 0, 2, 1), info(1, 0, 5, 5)]);
        assert_eq!(lost(&told, 5), [1, 2, 2]);
        assert!(changes.is_empty());
        assert!(Told::default().summary(3).is_none());
    }

    #[test]
    fn answers_that_overtake_each_other_change_nothing() {
        let (told, _) = answered(&[info(1, 0, 3, 2), info(1, 0, 1, 0), info(1, 0, 2, 1)]);
        assert_eq!(lost(&told, 0), [0; 3]);
        // The server had 4 before 3.
        let (told, _) = answered(&[info(1, 4, 1, 4), info(1, 3, 2, 3)]);
        assert_eq!(lost(&told, 3), [0, 0, 3]);
    }

    #[test]
    fn around_a_restart_nobody_knows() {
        // 3 to 6 are unanswered: the old one told of 2, the new one began with 6 and told of 7.
        let (told, changes) = answered(&[info(1, 0, 3, 2), info(2, 6, 2, 7)]);
        let answers = told.answers;
        assert_eq!((lost(&told, 6), answers), ([0, 3, 3], 2));
        assert_eq!((changes.len(), changes[0].what), (1, "count"));
        assert_eq!(changes[0].unix_seconds, 0.0015);
    }

    #[test]
    fn workers_that_take_turns_count_together() {
        let infos: Vec<_> = (0..100)
            .map(|it| info(it % 2, it % 2, it / 2 + 1, it))
            .filter(|it| it.sequence % 10 != 3)
            .collect();
        let (told, changes) = answered(&infos);
        assert_eq!(lost(&told, 10), [0, 10, 0]);
        assert_eq!(changes.len(), 1, "the second is new once");
    }

    #[test]
    fn counts_that_are_forgotten_are_not_lost() {
        // Each of a hundred has two, of which the first is answered, and misses one there.
        let infos: Vec<_> = (0..100)
            .flat_map(|it| [info(it, it * 4, 1, it * 4), info(it, it * 4, 3, it * 4 + 3)])
            .collect();
        let (told, changes) = answered(&infos);
        assert_eq!(told.counts.len(), COUNTS_MAX.min(told.counts.len()));
        assert_eq!(lost(&told, 200), [100, 100, 0]);
        assert_eq!((changes.len(), told.first_changes.len()), (99, CHANGES_MAX));
    }

    #[test]
    fn what_came_again_or_late_is_told_once() {
        let mut told = Told::default();
        let mut again = info(1, 0, 2, 0);
        (again.is_again, again.is_late) = (true, true);
        told.answer(&info(1, 0, 1, 0), true, 0, &mut |_| {});
        told.answer(&again, false, 0, &mut |_| {});
        let summary = told.summary(0).unwrap();
        assert_eq!((summary.duplicated_there, summary.reordered_there), (1, 0));
    }
}
