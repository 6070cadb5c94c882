//! `reflector report`: reads saved runs, merges what is alike, compares it with a baseline, and
//! draws it.
//!
//! Goals: many machines can load one target, and the result is one; quantiles are merged from
//! histograms and never averaged; what cannot be read is named and costs nothing else.
//!
//! Not here: gzip, databases, and guesses about what a foreign file means beyond what its format
//! says.
//!
//! A file is read (`read`) by its content, as `json`, `hdr_log`, `percentiles` or `document`, into
//! runs (`run`). A `group` of one kind is merged and compared (`compare`); `page` and `object`
//! print it, and `plot` draws it.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod run;
pub mod unit;

mod read;

mod document;
mod encoded;
mod hdr_log;
mod histogram;
mod json;
mod lines;
mod percentiles;

mod compare;
mod copies;
mod group;
mod loads;
mod verdict;

mod object;
mod page;
mod plot;

#[cfg(test)]
mod others;
#[cfg(test)]
mod possible;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use group::Group;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::output;
use reflector_measure::percent::Percent;
use reflector_measure::text;
use run::Run;
use unit::{Form, UnitOf};

/// What `reflector report` is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Saved runs; `-` is stdin.
    pub files: Vec<PathBuf>,
    /// Saved runs to compare with.
    pub baseline: Vec<PathBuf>,
    /// By how many percent a run may be worse than the baseline.
    pub max_regression: Option<Percent>,
    /// The units of times whose file does not tell theirs.
    pub units: Vec<UnitOf>,
    /// Where the plot goes.
    pub svg: Option<PathBuf>,
    /// JSON lines instead of text.
    pub json: bool,
}

/// Reads the files that `options` name, prints what they come to, and says how to end.
///
/// # Errors
/// A file that would be overwritten by the plot, and `ENOSPC` or `EACCES` of what
/// is written. A file that cannot be read is logged, and ends in [`Exit::Failed`].
pub fn run(options: &Options) -> Result<Exit, Error> {
    refuse_overwriting(options)?;
    let mut all = Files::default();
    let now = all.read(&options.files, &options.units);
    let baseline = all.read(&options.baseline, &options.units);
    all.refuse_one_unit_for_many_forms(&options.units)?;
    let groups = group::gather(now, baseline);
    let worse: Vec<String> = options
        .max_regression
        .map(|max| groups.iter().flat_map(|it| it.worse(max.0)).collect())
        .unwrap_or_default();
    if options.max_regression.is_some() && groups.iter().all(|it| it.changes().is_empty()) {
        tracing::error!("cannot check --max-regression: there is nothing to compare");
        all.has_failed = true;
    }
    let stdout = io::stdout();
    let width = text::width(&stdout);
    let out = &mut stdout.lock();
    let result = if options.json {
        object::write(out, &groups, &worse)
    } else {
        out.write_all(page::page(&groups, &worse, width).as_bytes())
    };
    output::written(result.and_then(|()| out.flush()))?;
    // Behind the tables, which are there whatever becomes of the picture.
    if let Some(path) = &options.svg {
        draw(path, &groups)?;
    }
    Ok(if all.has_failed {
        Exit::Failed
    } else if worse.is_empty() {
        Exit::Done
    } else {
        Exit::ThresholdMissed
    })
}

/// Runs of all files together: each is compared with each.
const RUNS_MAX: usize = 4000;
/// Bytes that the histograms of all files may take: a thousand of the usual kind.
const TIMES_LEN_MAX: usize = 256 << 20;

/// Does all that is done with a file which holds `bytes`, and writes nothing: for fuzz/.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let Ok((saved, _)) = read::read_from(bytes, "f", &[]) else {
        return;
    };
    for baseline in [Vec::new(), saved.runs.clone()] {
        let groups = group::gather(saved.runs.clone(), baseline);
        let worse: Vec<_> = groups.iter().flat_map(|it| it.worse(5.0)).collect();
        object::write(&mut io::sink(), &groups, &worse).expect("a sink takes everything");
        page::page(&groups, &worse, 80);
        let _ = plot::svg(&groups);
    }
}

#[derive(Default)]
struct Files {
    /// Runs so far, and bytes of their histograms.
    runs: usize,
    times_len: usize,
    has_failed: bool,
    /// The forms of those that tell no unit.
    without_unit: BTreeSet<Form>,
}

impl Files {
    /// The runs in all of `paths` that can be read.
    fn read(&mut self, paths: &[PathBuf], units: &[UnitOf]) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut seen = BTreeSet::new();
        for path in paths {
            let is_twice = identity(path).is_some_and(|it| !seen.insert(it));
            if is_twice {
                let name = read::display_name(path);
                tracing::warn!("{name} is named twice, and counts once");
                continue;
            }
            let read = read::read(path, units).and_then(|(saved, form)| {
                self.find_room(path, &saved.runs)?;
                Ok((saved, form))
            });
            match read {
                Ok((saved, form)) => {
                    self.without_unit.extend(form);
                    for warning in saved.warnings {
                        tracing::warn!("{warning}");
                    }
                    runs.extend(saved.runs);
                }
                Err(error) => {
                    tracing::error!("{error}");
                    self.has_failed = true;
                }
            }
        }
        runs
    }

    /// Counts `runs` of the file at `path` in.
    ///
    /// # Errors
    /// With those of the files before it they are too many.
    fn find_room(&mut self, path: &Path, runs: &[Run]) -> Result<(), Error> {
        let times = runs.iter().filter_map(|run| run.times_ns.as_ref());
        let len: usize = times.map(histogram::len_bytes).sum();
        let (runs, times_len) = (self.runs + runs.len(), self.times_len + len);
        let said = if runs > RUNS_MAX {
            format!("there are more than {RUNS_MAX} runs in all")
        } else if times_len > TIMES_LEN_MAX {
            format!(
                "the histograms of all files take more than {} MiB",
                TIMES_LEN_MAX >> 20
            )
        } else {
            (self.runs, self.times_len) = (runs, times_len);
            return Ok(());
        };
        let attempted = format!("cannot take {} in", read::display_name(path));
        Err(Error::new(attempted, said).try_this("report fewer files at a time"))
    }

    /// A unit of no form in particular is not that of all: logs are in nanoseconds where the tables
    /// of the same tool are in milliseconds.
    fn refuse_one_unit_for_many_forms(&self, units: &[UnitOf]) -> Result<(), Error> {
        let is_said = |form: &&Form| units.iter().any(|it| it.form == Some(**form));
        let not_said = self.without_unit.iter().filter(|form| !is_said(form));
        let names: Vec<_> = not_said.map(|form| form.name()).collect();
        match units.iter().find(|it| it.form.is_none()) {
            Some(UnitOf { unit, .. }) if names.len() > 1 => Err(Error::usage(
                format!("cannot take all times to be in {}", unit.symbol()),
                format!("the files are of several forms: {}", names.join(", ")),
            )
            .try_this(format!(
                "--unit {}={} says it of one of them",
                names[names.len() - 1],
                unit.symbol()
            ))),
            _ => Ok(()),
        }
    }
}

/// What tells one file from another, whatever it is called.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// A plot written over a run would be the end of the run.
fn refuse_overwriting(options: &Options) -> Result<(), Error> {
    let Some(svg) = &options.svg else {
        return Ok(());
    };
    let written = fs::canonicalize(svg).ok();
    let is_same = |path: &&PathBuf| written.is_some() && fs::canonicalize(path).ok() == written;
    match options.files.iter().chain(&options.baseline).find(is_same) {
        Some(_) => Err(Error::usage(
            format!("cannot draw into {}", read::display_name(svg)),
            "it is one of the files to be read",
        )
        .try_this("--svg takes a file of its own")),
        None => Ok(()),
    }
}

fn draw(path: &Path, groups: &[Group]) -> Result<(), Error> {
    let attempted = || format!("cannot draw into {}", read::display_name(path));
    let svg = plot::svg(groups).map_err(|said| {
        Error::new(attempted(), said).try_this("runs saved with --hdr hold what a plot needs")
    })?;
    fs::write(path, svg).map_err(|e| Error::system(attempted(), &e))
}
