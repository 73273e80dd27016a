//! The list of faults in `README.md` is complete, and every test it names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// The tests of this binary, as it lists them itself.
fn own() -> BTreeSet<String> {
    let listed = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// Whether a module of the integration tests has a function of this name: `a::b::x` is in `a/b.rs`.
fn is_in_it(name: &str) -> bool {
    let Some((modules, function)) = name.rsplit_once("::") else { return false };
    let file = tests().join("it").join(modules.replace("::", "/")).with_extension("rs");
    fs::read_to_string(file).unwrap_or_default().contains(&format!("fn {function}("))
}

#[test]
fn every_fault_has_a_row_and_every_row_its_tests() {
    let rows = rows();
    let have: BTreeSet<&str> = rows.iter().map(|(fault, _)| fault.as_str()).collect();
    let all = (1..=18).chain(20..=40).chain(45..=68).chain(70..=75).map(|n| format!("F{n:02}"));
    let missing: Vec<String> = all.filter(|fault| !have.contains(fault.as_str())).collect();
    assert!(missing.is_empty(), "no row: {missing:?}");
    let bare: Vec<_> = rows.iter().filter(|(_, tests)| tests.is_empty()).map(|(fault, _)| fault).collect();
    assert!(bare.is_empty(), "no test named: {bare:?}");
    let own = own();
    let named = rows.iter().flat_map(|(_, tests)| tests);
    let gone: Vec<_> = named.filter(|name| !own.contains(*name) && !is_in_it(name)).collect();
    assert!(gone.is_empty(), "no such test: {gone:?}");
    let order: Vec<_> = rows.iter().map(|(fault, _)| fault).collect();
    assert!(order.is_sorted() && have.len() == order.len(), "one row each, in order: {order:?}");
}
