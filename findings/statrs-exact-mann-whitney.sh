#!/usr/bin/env bash
# statrs 0.19.1: the exact two-sided test of Mann and Whitney says 1 where the samples do not overlap.
#
# Guess, written down first: of two samples of four values each, all of one above all of the other,
# the exact two-sided probability is 2/70 = 0.0286: there are 70 orders of eight values, and two of
# them are that extreme (H. B. Mann, D. R. Whitney, 1947). A crate that says it follows scipy, whose
# `mannwhitneyu(method="exact")` answers 0.0286, would say so too.
#
# Seen: `MannWhitneyUMethod::Exact`, and `Automatic`, which chooses it for small samples without
# ties, say p = 1. One-sided, "greater" is 0.9857 for the sample that is greater throughout, and
# "less" is 0: the other tail is summed. `AsymptoticInclContinuityCorrection` is right (0.0304). So
# whoever lets the crate choose the method is told "no difference" of the clearest difference that
# there can be, and only while samples are small.
#
# Ends with 0 while statrs 0.19.1 does what is said above, with 1 if it does not.
# Needs cargo, a compiler of Rust 1.89 or newer, and crates.io.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"

mkdir src
cat > Cargo.toml << 'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"

[dependencies]
statrs = { version = "=0.19.1", default-features = false, features = ["std"] }
TOML
cat > src/main.rs << 'RUST'
use statrs::stats_tests::Alternative;
use statrs::stats_tests::mannwhitneyu::{MannWhitneyUMethod, mannwhitneyu};

fn main() {
    let (above, below) = ([20.0, 21.0, 22.0, 23.0], [10.0, 11.0, 12.0, 13.0]);
    let p = |method, alternative| mannwhitneyu(&above, &below, method, alternative).unwrap().1;
    use MannWhitneyUMethod::{AsymptoticInclContinuityCorrection, Automatic, Exact};
    println!("exact two-sided {:.4}", p(Exact, Alternative::TwoSided));
    println!("automatic two-sided {:.4}", p(Automatic, Alternative::TwoSided));
    println!("exact greater {:.4}", p(Exact, Alternative::Greater));
    println!("exact less {:.4}", p(Exact, Alternative::Less));
    let asymptotic = p(AsymptoticInclContinuityCorrection, Alternative::TwoSided);
    println!("asymptotic two-sided {asymptotic:.4}");
}
RUST

seen=$(cargo run --quiet)
expected="exact two-sided 1.0000
automatic two-sided 1.0000
exact greater 0.9857
exact less 0.0000
asymptotic two-sided 0.0304"
echo "statrs 0.19.1, four values above four others (right: two-sided 0.0286, greater 0.0143, less 1):"
echo "$seen"
if [ "$seen" != "$expected" ]; then
    echo "this is not what was seen before:"
    echo "$expected"
    exit 1
fi
