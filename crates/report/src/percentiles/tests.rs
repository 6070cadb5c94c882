//! Tables of several writers, whole and damaged.

use super::*;

const TABLE: &str = "\
  Detailed Percentile spectrum:
       Value   Percentile   TotalCount 1/(1-Percentile)

       0.100     0.000000            1         1.00
       0.500     0.500000           50         2.00
       2.000     1.000000          100          inf
#[Mean    =        0.600, StdDeviation   =        0.100]
#[Max     =        2.000, Total count    =          100]
#[Buckets =           27, SubBuckets     =         2048]
----------------------------------------------------------
  5 requests in 1.00s
";

fn read_text(text: &str, unit: Option<Unit>) -> Result<Saved, String> {
    read(&mut Lines::new(text.as_bytes()), "f", unit).map_err(Fault::said)
}

#[test]
fn a_table_is_as_good_as_its_rows() {
    let saved = read_text(TABLE, Some(Unit::Ms)).unwrap();
    let times = saved.runs[0].times.unwrap();
    assert_eq!(times.count, 100);
    assert!((times.p50 - 500.0).abs() < 1.0 && (times.max - 2000.0).abs() < 2.0);
    assert!(saved.warnings.is_empty());
}

#[test]
fn a_table_that_is_cut_off_has_no_percentiles() {
    let said = read_text(&TABLE[..170], None).unwrap_err();
    assert_eq!(said, "line 4: the table has no end: it is cut off");
    let both = format!("{TABLE}{}", &TABLE[..170]);
    let saved = read_text(&both, Some(Unit::Ms)).unwrap();
    assert_eq!(saved.runs.len(), 1);
    assert_eq!(
        saved.warnings,
        ["f: the table that ends in line 15 is cut off and left out"]
    );
    assert!(read_text(&TABLE[..80], None).is_err());
    let torn = TABLE.replace("100          inf", "7 inf");
    assert!(
        read_text(&torn, None)
            .unwrap_err()
            .starts_with("its rows count 7")
    );
}

#[test]
fn tables_in_one_file_are_runs_of_their_own() {
    let saved = read_text(&format!("first\n{TABLE}second\n{TABLE}"), Some(Unit::Ms)).unwrap();
    let names: Vec<_> = saved.runs.iter().map(|run| &*run.name).collect();
    assert_eq!(names, ["f #1 [first]", "f #2 [second]"]);
    assert!(saved.runs.iter().all(|run| run.times.unwrap().count == 100));
    assert_eq!(saved.runs[0].kind, saved.runs[1].kind);
}

#[test]
fn a_percentile_without_a_row_is_told_to_be_at_most_the_next() {
    let saved = read_text(TABLE, Some(Unit::Ms)).unwrap();
    let expected = "f: no row of the table for p90, p99: at most what is shown";
    assert_eq!(saved.runs[0].notes, [expected]);
    // All values but one are up to the row before, or the values are the same.
    let known = TABLE.replace("0.500000           50", "0.980000           99");
    let notes = &read_text(&known, None).unwrap().runs[0].notes;
    assert!(notes[0].contains("for p50, p90: at most"), "{notes:?}");
    let same = TABLE.replace("       0.500 ", "       2.000 ");
    assert!(read_text(&same, None).unwrap().runs[0].notes.is_empty());
}

#[test]
fn rows_that_round_to_one_hundred_percent_count() {
    let last = "       2.000     1.000000          100          inf\n";
    let before = "       1.000     1.000000           99          inf\n";
    let more = TABLE.replace(last, &format!("{before}{last}"));
    let times = read_text(&more, Some(Unit::Ms)).unwrap().runs[0]
        .times
        .unwrap();
    assert!(times.max >= 2000.0, "{times:?}");
}

#[test]
fn counts_that_contradict_their_end_are_refused() {
    let said = read_text(&TABLE.replace("      100]", "      170]"), None).unwrap_err();
    assert_eq!(said, "its rows count 100 values, and its end 170");
    let negative = TABLE.replace("           50 ", "          -50 ");
    let said = read_text(&negative, None).unwrap_err();
    assert!(
        said.starts_with("line 5: its count is -50, it is less than the one before"),
        "{said}"
    );
}

/// The percentiles of [`TABLE`], in milliseconds, by whichever writer.
fn assert_is_the_table(text: &str, unit: Option<Unit>) {
    let saved = read_text(text, unit).unwrap();
    let times = saved.runs[0].times.unwrap();
    assert_eq!(times.count, 100, "{text}");
    assert!((times.p50 - 500.0).abs() < 1.0, "{text}: {times:?}");
    assert!((times.max - 2000.0).abs() < 2.0, "{text}: {times:?}");
    assert_eq!(saved.warnings, Vec::<String>::new(), "{text}");
}

#[test]
fn decimal_commas_are_read_and_commas_between_columns_too() {
    let with_commas = TABLE
        .replace("0.", "0,")
        .replace("1.", "1,")
        .replace("2.", "2,");
    assert_is_the_table(&with_commas, Some(Unit::Ms));
    let head = "Value,Percentile,TotalCount,1/(1-Percentile)\n";
    let csv = format!("{head}0.1,0.0,1,1.0\n0.5,0.5,50,2.0\n2.0,1.0,100,Infinity\n");
    assert_is_the_table(&csv, Some(Unit::Ms));
    assert_is_the_table(&csv.replace(',', ", "), Some(Unit::Ms));
    let unclear = format!("{head}0,1,0,0,1,1,0\n");
    assert!(read_text(&unclear, None).unwrap_err().starts_with("line 2"));
    let thousands = TABLE.replace("2.000", "2,000.0");
    assert!(
        read_text(&thousands, None)
            .unwrap_err()
            .starts_with("line 6")
    );
}

#[test]
fn the_end_of_a_table_may_have_fractions_or_be_missing() {
    assert_is_the_table(&TABLE.replace(" 100]", " 100.000]"), Some(Unit::Ms));
    assert_is_the_table(&TABLE.replace(" 100]", " 100,000]"), Some(Unit::Ms));
    let without = TABLE.split("#[").next().unwrap();
    assert_is_the_table(without, Some(Unit::Ms));
    assert_is_the_table(&without.replace("          inf", ""), Some(Unit::Ms));
}

#[test]
fn a_unit_in_the_head_counts() {
    for head in ["Value(ms)", "Value (MS)", "Value( ms )"] {
        assert_is_the_table(&TABLE.replace("Value", head), None);
        assert_is_the_table(&TABLE.replace("Value", head), Some(Unit::S));
    }
    for micro in ["us", "\u{b5}s", "\u{3bc}s"] {
        let text = TABLE.replace("Value", &format!("Value({micro})"));
        let times = read_text(&text, None).unwrap().runs[0].times.unwrap();
        assert!((times.p50 - 0.5).abs() < 0.001, "{micro}: {times:?}");
    }
}

#[test]
fn a_count_that_is_not_what_its_percentile_says_is_refused() {
    // As a counter of 32 bits that has wrapped leaves it.
    let wrapped = TABLE.replace(" 50 ", "  3 ");
    let said = read_text(&wrapped, None).unwrap_err();
    assert!(said.starts_with("line 5: its count is 3"), "{said}");
}
