//! How much each peer may send: the options, as typed, and what they come to.

use clap::Args;
use reflector::Limit;
use reflector::config::Builder;
use reflector_measure::number;

use crate::values::items;

// A doc comment on it would become the program's description.

#[derive(Args, Clone, Debug)]
pub struct Rate {
    /// Reply to at most so many datagrams a second of a source, per worker
    ///
    /// Per prefix *and worker*: a source whose flows are spread over several workers gets as much
    /// from each. BURST is what a source may send at once after a rest [default: PPS]. A prefix
    /// that is shorter than the longest of --rate-limit-prefix has 32 times the limit for each 8
    /// bits less. Of a train beyond the limit the first datagrams get a reply. The limiter takes
    /// 1 MiB per worker, whatever comes.
    #[arg(long, value_name = "PPS[/BURST]", value_parser = limit)]
    rate_limit: Option<(u32, u32)>,
    /// Lengths of the prefixes that --rate-limit is about [default: 32,24/64,56,48]
    ///
    /// Those of IPv4, a slash, those of IPv6; at most eight of each.
    #[arg(long, value_name = "LENGTHS", requires = "rate_limit", value_parser = lens)]
    rate_limit_prefix: Option<Lens>,
    /// Count what is beyond --rate-limit, and reply to it all the same
    #[arg(long, requires = "rate_limit")]
    rate_limit_dry_run: bool,
}

/// Lengths of prefixes of both families.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lens {
    v4: Vec<u8>,
    v6: Vec<u8>,
}

impl Rate {
    /// `builder`, told how much each source may send.
    pub fn apply(&self, builder: Builder) -> Builder {
        let Some((rate, burst)) = self.rate_limit else {
            return builder;
        };
        let mut limit = Limit::new(rate);
        limit.burst = burst;
        limit.is_dry_run = self.rate_limit_dry_run;
        if let Some(Lens { v4, v6 }) = &self.rate_limit_prefix {
            (limit.lens_v4, limit.lens_v6) = (v4.clone(), v6.clone());
        }
        builder.rate_limit(limit)
    }
}

/// Reads a rate, and a burst behind a slash.
fn limit(text: &str) -> Result<(u32, u32), String> {
    const EXPECTED: &str =
        "expected datagrams a second such as 500 or 10k, and maybe a burst, as in 500/2k";
    let number = |text: &str| {
        let number = number::whole(text).and_then(|number| u32::try_from(number).ok());
        number.filter(|&number| number > 0).ok_or(EXPECTED)
    };
    let (rate, burst) = text.split_once('/').unwrap_or((text, text));
    Ok((number(rate)?, number(burst)?))
}

/// Reads lengths of prefixes.
fn lens(text: &str) -> Result<Lens, String> {
    let expected = || "expected lengths of prefixes such as 32,24/64,56,48".to_owned();
    let (v4, v6) = text.split_once('/').ok_or_else(expected)?;
    let read = |text: &str, longest: u8| -> Result<Vec<u8>, String> {
        let len = |text: &str| match text.parse() {
            Ok(len) if (1..=longest).contains(&len) => Ok(len),
            _ => Err(format!(
                "'{text}' is none of 1 to {longest}; {}",
                expected()
            )),
        };
        let lens: Vec<u8> = items(text).map(len).collect::<Result<_, _>>()?;
        match lens.len() {
            1..=Limit::LENS_MAX => Ok(lens),
            _ => Err(expected()),
        }
    };
    Ok(Lens {
        v4: read(v4, 32)?,
        v6: read(v6, 128)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_a_rate_and_maybe_a_burst() {
        assert_eq!(limit("500"), Ok((500, 500)));
        assert_eq!(limit("10k/2k"), Ok((10_000, 2000)));
        for text in ["", "0", "5/0", "-1", "1/2/3", "x", "5000M"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_are_those_of_both_families() {
        let (v4, v6) = (vec![32, 24], vec![64]);
        assert_eq!(lens("32, 24/64"), Ok(Lens { v4, v6 }));
        for text in [
            "32",
            "33/64",
            "32/129",
            "0/64",
            "/64",
            "32/",
            "1,2,3,4,5,6,7,8,9/64",
        ] {
            assert!(lens(text).is_err(), "{text}");
        }
    }
}
