//! The list of faults in `README.md` is complete, and every test it names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Faults of the list whose rows are not written yet; empty when it is complete.
const YET_TO_COME: [&str; 40] = [
    "F20", "F21", "F22", "F23", "F24", "F25", "F26", "F27", "F28", "F29", "F30", "F31", "F32", "F33", "F34",
    "F35", "F36", "F40", "F45", "F46", "F47", "F48", "F49", "F50", "F51", "F52", "F53", "F54", "F55", "F56",
    "F57", "F58", "F59", "F60", "F61", "F63", "F64", "F65", "F67", "F68",
];

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Each row: its first cell, and the names in backticks that have the form of a test's.
fn rows() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(tests().join("faults/README.md")).unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.splitn(3, " | ");
        let (fault, tests) = (cells.next()?.to_owned(), cells.nth(1)?);
        let quoted = tests.split('`').skip(1).step_by(2);
        let names = quoted.filter(|name| name.contains("::") && !name.ends_with("::")).map(str::to_owned);
        Some((fault, names.collect()))
    };
    text.lines().filter_map(row).filter(|(fault, _)| fault != "fault").collect()
}

/// Whether a module of one of the binaries has a test of this name: `kill::cycles::x` is in `kill/cycles.rs`, or in `kill.rs`.
fn is_there(name: &str) -> bool {
    let path: Vec<&str> = name.split("::").collect();
    let Some((function, modules)) = path.split_last() else { return false };
    let has = |file: PathBuf| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.split("#[test]").chain(text.split("#[tokio::test")).skip(1).any(|after| {
            let signature = after.split_once("fn ").map_or("", |(_, rest)| rest);
            signature.starts_with(&format!("{function}("))
        })
    };
    let files = |binary: &str| {
        let folder = tests().join(binary);
        [folder.join(modules.join("/")).with_extension("rs"), folder.join(modules.join("/")).join("mod.rs")]
    };
    ["faults", "it"].into_iter().flat_map(files).any(has)
}

#[test]
fn every_fault_has_a_row_and_every_row_its_tests() {
    let rows = rows();
    let have: BTreeSet<&str> = rows.iter().map(|(fault, _)| fault.as_str()).collect();
    let all = (1..=18).chain(20..=40).chain(45..=68).map(|n| format!("F{n:02}"));
    let to_come: BTreeSet<&str> = YET_TO_COME.into_iter().collect();
    let missing: Vec<String> =
        all.filter(|fault| !have.contains(fault.as_str()) && !to_come.contains(fault.as_str())).collect();
    assert!(missing.is_empty(), "no row: {missing:?}");
    let bare: Vec<_> = rows.iter().filter(|(_, tests)| tests.is_empty()).map(|(fault, _)| fault).collect();
    assert!(bare.is_empty(), "no test named: {bare:?}");
    let gone: Vec<_> = rows.iter().flat_map(|(_, tests)| tests).filter(|name| !is_there(name)).collect();
    assert!(gone.is_empty(), "no such test: {gone:?}");
    let order: Vec<_> = rows.iter().map(|(fault, _)| fault).collect();
    assert!(order.is_sorted() && have.len() == order.len(), "one row each, in order: {order:?}");
}
