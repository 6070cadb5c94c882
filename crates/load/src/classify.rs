//! What came back: classified datagram by datagram, accounted for train by train. Pure.
//!
//! A datagram is first asked whose it is and whether it is as it was sent, then where it came from,
//! then when, then whether it is the first answer. Only one that passes everything is `received`;
//! every other first answer settles its datagram as lost, so that nobody waits for it any more.

use std::net::SocketAddr;

use crate::stats::{Counters, Stats};
use crate::track::Track;
use crate::wire::{Packet, Probe, has_pattern};
use reflector_measure::echo_info::{self, BLOCK_LEN};

/// Datagrams of one buffer up to which each is compared with the pattern; of longer trains one is,
/// at a position that moves.
const COMPARED_EACH_MAX: usize = 4;

/// What came back in one buffer, as the kernel tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Response<'a> {
    /// Index of the flow at whose socket it arrived.
    pub(crate) flow: u32,
    /// Who sent it; `None` if the kernel gave no Internet address.
    pub(crate) source: Option<SocketAddr>,
    /// When it arrived, in nanoseconds of the timeline of the probes.
    pub(crate) received_ns: u64,
    /// One datagram, or a train of them.
    pub(crate) payload: &'a [u8],
    /// Bytes of each datagram of a train; the last may be shorter.
    pub(crate) segment_len: usize,
}

impl<'a> Response<'a> {
    /// The datagram that begins at `at`.
    fn datagram(&self, at: usize) -> &'a [u8] {
        let rest = &self.payload[at..];
        &rest[..rest.len().min(self.segment_len.max(1))]
    }
}

/// Tells replies apart by what is expected of them.
#[derive(Debug)]
pub(crate) struct Classifier {
    target: SocketAddr,
    session: u32,
    timeout_ns: u64,
    /// Which run asks at the end of its probes how they are seen, if it does.
    asking_run: Option<u64>,
    /// Which datagram of the next long train is compared with the pattern.
    sample: usize,
}

/// Answers to consecutive datagrams, in time, unharmed and from the target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right<'a> {
    /// The first of the datagrams, and how many they are.
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// Whether they had no answer before.
    pub(crate) is_first: bool,
    /// The first of these answers.
    pub(crate) datagram: &'a [u8],
}

/// Answers of one buffer to consecutive datagrams that share all that matters.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// Where it begins in the buffer.
    at: usize,
    first: u64,
    count: u64,
    scheduled_ns: u64,
    sent_ns: u64,
    is_corrupt: bool,
}

impl Run {
    /// Whether `probe` continues it.
    #[inline]
    fn takes(&self, probe: &Probe, is_corrupt: bool) -> bool {
        probe.sequence == self.first.wrapping_add(self.count)
            && probe.scheduled_ns == self.scheduled_ns
            && probe.sent_ns == self.sent_ns
            && is_corrupt == self.is_corrupt
    }
}

impl Classifier {
    /// Expects replies from `target` to the probes of `session`.
    pub(crate) fn new(target: SocketAddr, session: u32, timeout_ns: u64) -> Self {
        Self {
            target,
            session,
            timeout_ns,
            asking_run: None,
            sample: 0,
        }
    }

    /// The same, where probes of `run` end in a question how they are seen, if it is there.
    pub(crate) fn asking(self, run: Option<u64>) -> Self {
        Self {
            asking_run: run,
            ..self
        }
    }

    /// Classifies every datagram of one received buffer and accounts for it in `track` and `stats`.
    #[inline]
    pub(crate) fn classify(
        &mut self,
        response: &Response<'_>,
        track: &mut Track,
        stats: &mut Stats,
    ) {
        self.classify_each(response, track, stats, &mut |_| {});
    }

    /// The same, and tells `each` of answers as they should be.
    #[inline]
    pub(crate) fn classify_each(
        &mut self,
        response: &Response<'_>,
        track: &mut Track,
        stats: &mut Stats,
        each: &mut impl FnMut(Right<'_>),
    ) {
        let segment_len = response.segment_len.max(1);
        let count = response.payload.len().div_ceil(segment_len).max(1);
        self.sample = self.sample.wrapping_add(1);
        let sample = self.sample % count;
        stats.counters.arrived.buffers += 1;
        stats.counters.arrived.datagrams += count as u64;
        if response.payload.is_empty() {
            stats.counters.foreign += 1;
        }
        let mut run = Run::default();
        for (index, datagram) in response.payload.chunks(segment_len).enumerate() {
            let Some(probe) = self.identify(datagram, response.flow, &mut stats.counters) else {
                continue;
            };
            let is_compared = count <= COMPARED_EACH_MAX || index == sample;
            let is_corrupt = is_compared && !self.is_as_sent(&probe, datagram);
            if run.takes(&probe, is_corrupt) {
                run.count += 1;
                continue;
            }
            self.account(run, response, track, stats, each);
            run = Run {
                at: index * segment_len,
                first: probe.sequence,
                count: 1,
                scheduled_ns: probe.scheduled_ns,
                sent_ns: probe.sent_ns,
                is_corrupt,
            };
        }
        self.account(run, response, track, stats, each);
    }

    /// Whether what is behind the header of `probe` is what was sent, or what a question there is
    /// answered with.
    #[inline]
    fn is_as_sent(&self, probe: &Probe, datagram: &[u8]) -> bool {
        let Some(run) = self.asking_run else {
            return has_pattern(datagram);
        };
        let before = datagram.len().saturating_sub(BLOCK_LEN);
        has_pattern(&datagram[..before]) && echo_info::is_intact(datagram, run, probe.sequence)
    }

    /// The probe that `datagram` is, if it is one of ours and its header is intact.
    #[inline]
    fn identify(&self, datagram: &[u8], flow: u32, counters: &mut Counters) -> Option<Probe> {
        let Some(packet) = Packet::new_checked(datagram) else {
            counters.foreign += 1;
            return None;
        };
        let probe = packet.probe();
        if packet.is_intact() && probe.session == self.session && probe.flow == flow {
            return Some(probe);
        }
        // Damaged, if one of its two marks is still ours; otherwise somebody else's.
        let is_ours = probe.session == self.session || packet.has_magic();
        if is_ours && !packet.is_intact() {
            counters.corrupt += 1;
        } else {
            counters.foreign += 1;
        }
        None
    }

    /// Accounts for the answers of a run, once for all of them.
    fn account(
        &self,
        run: Run,
        response: &Response<'_>,
        track: &mut Track,
        stats: &mut Stats,
        each: &mut impl FnMut(Right<'_>),
    ) {
        if run.count == 0 {
            return;
        }
        let answers = track.answer(run.first, run.count);
        let counters = &mut stats.counters;
        // An intact header with a number that was never sent is damaged in a way of its own.
        counters.corrupt += answers.unknown;
        let counted = run.count - answers.unknown - answers.uncounted;
        if run.is_corrupt {
            counters.corrupt += counted;
            counters.given_up += answers.first;
            counters.answered_otherwise += answers.first + answers.given_up;
            return;
        }
        if !response.source.is_some_and(|source| self.is_target(source)) {
            if let Some(source) = response.source.filter(|_| counted > 0) {
                counters.wrong_source.record(source, counted);
            }
            counters.given_up += answers.first;
            counters.answered_otherwise += answers.first + answers.given_up;
            return;
        }
        counters.duplicated += answers.again;
        let rtt_ns = response.received_ns.checked_sub(run.sent_ns);
        if rtt_ns.is_some_and(|rtt_ns| rtt_ns > self.timeout_ns) {
            counters.late += answers.first + answers.given_up + answers.forgotten;
            counters.given_up += answers.first;
            counters.answered_otherwise += answers.first + answers.given_up;
            track.lose_answered(run.first, answers.first);
            return;
        }
        let received = answers.first + answers.given_up;
        counters.received += received;
        counters.recovered += answers.given_up;
        counters.reordered += answers.reordered;
        counters.late += answers.forgotten;
        if received + answers.again > 0 {
            each(Right {
                first: run.first,
                count: run.count,
                is_first: received > 0,
                datagram: response.datagram(run.at),
            });
        }
        match rtt_ns {
            None => counters.clock_stepped += received,
            Some(uncorrected_ns) if received > 0 => {
                let corrected_ns = response.received_ns.saturating_sub(run.scheduled_ns);
                let (corrected, uncorrected) = (&mut stats.rtt_ns, &mut stats.rtt_uncorrected_ns);
                corrected.saturating_record_n(corrected_ns, received);
                counters.rtt_max_ns = counters.rtt_max_ns.max(Some(corrected_ns));
                uncorrected.saturating_record_n(uncorrected_ns, received);
                if let Some(ns) = track.ipdv_ns(run.first, run.count, uncorrected_ns) {
                    counters.ipdv_count += 1;
                    counters.ipdv_sum_ns += ns;
                }
            }
            Some(_) => {}
        }
    }

    /// Whether `source` is who was asked. A scope says by which interface, not who.
    fn is_target(&self, source: SocketAddr) -> bool {
        source.ip() == self.target.ip() && source.port() == self.target.port()
    }
}

#[cfg(test)]
mod tests;
