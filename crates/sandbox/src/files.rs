//! Files that can still be opened.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::needs::{Entered, Needs};

/// The newest that this has been tried with.
const TRIED: ABI = ABI::V7;

/// Leaves /proc and the directories of the files in `needs` to be read, and nothing to be written,
/// made or executed; files are removed only from the directory of the one where sockets are handed
/// over. No TCP but the port in `needs`, no abstract sockets, no signals to others.
pub fn restrict(needs: &Needs, entered: &mut Entered) {
    let mut rights = vec![(PathBuf::from("/proc"), AccessFs::ReadFile)];
    let read = directories(&needs.read).into_iter();
    rights.extend(read.map(|path| (path, AccessFs::ReadFile)));
    let removed = needs.takeover.as_deref().map(directory);
    rights.extend(removed.map(|path| (path, AccessFs::RemoveFile)));
    match try_restrict(&rights, needs.listen, entered) {
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
    rights: &[(PathBuf, AccessFs)],
    listen: Option<u16>,
    entered: &mut Entered,
) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(Scope::from_all(TRIED))?
        .create()?;
    for (path, access) in rights {
        match (PathFd::new(path), access) {
            (Ok(opened), &access) => {
                ruleset = ruleset.add_rule(PathBeneath::new(opened, access))?;
            }
            (Err(error), AccessFs::RemoveFile) => entered.missing.push(format!(
                "nothing can be removed from {} any more: {error}",
                path.display()
            )),
            (Err(error), _) => entered.missing.push(format!(
                "{} cannot be read from now on: {error}",
                path.display()
            )),
        }
    }
    if let Some(port) = listen {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::BindTcp))?;
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
