//! Prints the public items in a file of rustdoc's JSON, sorted, one a line.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

use public_api::{Builder, PublicApi};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file: PathBuf = env::args_os()
        .nth(1)
        .ok_or("name a file of rustdoc's JSON")?
        .into();
    // Of what is derived, the trait is part of the face; its methods say nothing new.
    let derived = lines(&api(&file).build()?);
    let written = lines(&api(&file).omit_auto_derived_impls(true).build()?);
    let impls = derived
        .into_iter()
        .filter(|it| it.starts_with("impl") && !it.contains(" core::marker::StructuralPartialEq "));
    for line in impls.chain(written).collect::<BTreeSet<String>>() {
        println!("{line}");
    }
    Ok(())
}

/// Without what every type has, asked for or not.
fn api(file: &Path) -> Builder {
    Builder::from_rustdoc_json(file)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
}

fn lines(api: &PublicApi) -> Vec<String> {
    api.items().map(ToString::to_string).collect()
}
