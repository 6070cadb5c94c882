//! Files that can still be opened.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::needs::{Entered, Needs};

/// The newest that this has been tried with.
const TRIED: ABI = ABI::V7;

/// Leaves /proc and the directories of the files in `needs` to be read, and nothing to be written,
/// made or executed; no TCP, no abstract sockets, no signals to others.
pub fn restrict(needs: &Needs, entered: &mut Entered) {
    let mut read = vec![PathBuf::from("/proc")];
    read.extend(directories(&needs.read));
    match try_restrict(&read, entered) {
        Err(error) => entered
            .missing
            .push(format!("cannot take files away (Landlock): {error}")),
        Ok(status) => match status.ruleset {
            RulesetStatus::FullyEnforced => {}
            RulesetStatus::PartiallyEnforced => entered.remarks.push(format!(
                "this kernel has a part of Landlock ({:?}), which the sandbox does with",
                status.landlock
            )),
            RulesetStatus::NotEnforced => entered.missing.push(format!(
                "this kernel has no Landlock ({:?}): files are not taken away",
                status.landlock
            )),
        },
    }
}

fn try_restrict(
    read: &[PathBuf],
    entered: &mut Entered,
) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(Scope::from_all(TRIED))?
        .create()?;
    for path in read {
        match PathFd::new(path) {
            Ok(opened) => {
                ruleset = ruleset.add_rule(PathBeneath::new(opened, AccessFs::ReadFile))?;
            }
            Err(error) => entered.missing.push(format!(
                "{} cannot be read from now on: {error}",
                path.display()
            )),
        }
    }
    ruleset.restrict_self()
}

/// The directories that `files` are in, by the name given and by what links make of it: a list in a
/// ConfigMap is a link to a file beside it.
fn directories(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let named = files.iter().map(|file| directory(file));
    let resolved = files.iter().filter_map(|file| file.canonicalize().ok());
    let resolved = resolved.map(|file| directory(&file));
    named.chain(resolved).collect()
}

fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => ".".into(),
        Some(parent) => parent.to_owned(),
        None => "/".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_the_directory_of_its_name_and_in_that_of_its_target() {
        assert_eq!(directory(Path::new("list")), Path::new("."));
        assert_eq!(directory(Path::new("/list")), Path::new("/"));
        assert_eq!(directory(Path::new("a/list")), Path::new("a"));
        let of = |file: &str| directories(&[file.into()]);
        let both = of("/proc/self/status");
        let own = format!("/proc/{}", std::process::id());
        assert!(both.contains(Path::new("/proc/self")) && both.contains(Path::new(&own)));
        assert_eq!(of("/nowhere/list").len(), 1);
    }
}
