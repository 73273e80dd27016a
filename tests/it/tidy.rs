//! The architecture, held by a test: each rule is a function from sources to the sentences it has to say against them.

mod rules;
mod source;
mod supply;
mod wire;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rules::{Modules, Rule};
use source::Source;

/// Held over every Rust file of the package.
const RULES: [Rule; 8] = [
    rules::imports_point_up,
    rules::super_stays_inside,
    rules::pure_is_pure,
    rules::opens_with_documentation,
    rules::is_short,
    rules::mod_file_has_no_logic,
    rules::only_boundaries_serialize,
    rules::no_ignored_test,
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The file's text; a fixture that is no UTF-8 on purpose is read with replacements.
fn text(path: &str) -> String {
    let bytes = fs::read(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Paths, relative to the package, of the files with one of these endings, in the folders that hold our own work.
fn files(endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "scripts", "grammar", "fixtures", "build.rs"] {
        walk(&root().join(folder), &mut |path| {
            if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        });
    }
    found.sort();
    found
}

fn walk(path: &Path, visit: &mut impl FnMut(&Path)) {
    const NOT_OURS: [&str; 4] = ["node_modules", "dist", "target", "corpus"];
    let name = path.file_name().unwrap().to_str().unwrap();
    if NOT_OURS.contains(&name) || path.is_symlink() {
        return;
    }
    if path.is_file() {
        visit(path);
    } else if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| walk(&entry.unwrap().path(), visit));
    }
}

/// Names directly under `path`: folders when `folders`, else files without their ending.
fn names(path: &str, folders: bool) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(path)).unwrap().map(|entry| entry.unwrap().path());
    let wanted = entries.filter(|path| path.is_dir() == folders);
    wanted.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_file_keeps_every_rule() {
    let modules = Modules::parse(&text("src/lib.rs"));
    let mut sources: Vec<_> = files(&["rs"]).iter().map(|path| Source::new(path, &text(path))).collect();
    source::mark_test_files(&mut sources);
    let said: Vec<_> =
        RULES.iter().flat_map(|rule| sources.iter().flat_map(|source| rule(source, &modules))).collect();
    assert!(said.is_empty(), "\n{}\n", said.join("\n"));
}

#[test]
fn the_list_of_modules_is_the_tree() {
    let modules = Modules::parse(&text("src/lib.rs"));
    let listed: BTreeSet<_> = modules.names().map(str::to_owned).collect();
    assert_eq!(listed, names("src", true), "src/lib.rs against the folders of src/");
}

#[test]
fn nothing_is_left_for_later() {
    let endings = ["rs", "ts", "tsx", "css", "html", "sh", "mjs", "js", "pl", "abnf", "yaml", "toml"];
    let said: Vec<_> = files(&endings).iter().flat_map(|path| rules::marks(path, &text(path))).collect();
    assert!(said.is_empty(), "\n{}\n", said.join("\n"));
}

#[test]
fn every_integration_test_is_listed() {
    let main = text("tests/it/main.rs");
    let files = names("tests/it", false).into_iter().chain(names("tests/it", true)).collect();
    assert_eq!(rules::unlisted(&files, &main), Vec::<String>::new());
}

#[test]
fn every_fixture_is_used() {
    let readers =
        files(&["rs", "ts", "js", "mjs"]).into_iter().filter(|path| !path.starts_with("tests/it/tidy"));
    let readers: String = readers.map(|path| text(&path)).collect();
    assert_eq!(rules::unused(&names("fixtures", true), &readers), Vec::<String>::new());
}

#[test]
fn clippy_keeps_its_list() {
    assert_eq!(rules::missing_lints(&text("clippy.toml"), &text("Cargo.toml")), Vec::<String>::new());
}

/// Planted violations: each rule must be able to fail, and must leave the innocent neighbour alone.
mod planted {
    use super::rules::*;
    use super::*;

    const LIB: &str = "// ---- pure: p\npub mod model;\npub mod lifecycle;\n// ---- adapters: a\npub mod store;\npub mod api;";

    fn check(rule: Rule, path: &str, text: &str, expect: &[&str]) {
        let said = rule(&Source::new(path, text), &Modules::parse(LIB));
        assert_eq!(said.len(), expect.len(), "{said:?}");
        for (said, expect) in said.iter().zip(expect) {
            assert!(said.starts_with(path) && said.contains(expect), "{said:?} does not name {expect:?}");
        }
    }

    #[test]
    fn an_import_down_the_list() {
        let at = "src/lifecycle/a.rs";
        check(imports_point_up, at, "use crate::{model::Id, store};", &["crate::store"]);
        check(imports_point_up, at, "use crate::model as store;", &[]);
        check(imports_point_up, at, "fn f(x: u8) { (x as crate::api::B).g() }", &["crate::api::B"]);
        check(imports_point_up, at, "fn f() { write!(o, crate::api::X) }", &["crate::api::X"]);
        check(imports_point_up, at, "macro_rules! m { () => { $crate::store::x() } }", &["crate::store::x"]);
        check(imports_point_up, at, "use crate::unheard::Of;", &["crate::unheard"]);
        check(imports_point_up, at, "/// See [`crate::store`].\nuse crate::lifecycle::B;", &[]);
        check(imports_point_up, at, "#[cfg(test)]\nmod tests { use crate::store; }", &[]);
        check(imports_point_up, at, "#[cfg(not(test))]\nuse crate::store::S;", &["crate::store"]);
        check(imports_point_up, at, "impl A { #[cfg(test)] fn f() -> crate::api::B {} }", &[]);
        check(imports_point_up, "src/api/mod.rs", "use crate::{model, lifecycle, store};", &[]);
    }

    #[test]
    fn super_that_climbs_out() {
        check(super_stays_inside, "src/store/mod.rs", "use super::model::Id;", &["super::model"]);
        check(super_stays_inside, "src/store/a.rs", "use super::b::{C, super::super::api};", &[]);
        check(super_stays_inside, "src/store/a.rs", "use super::super::api;", &["super::super::api"]);
        check(super_stays_inside, "src/store/a.rs", "fn f() { self::super::super::api::g() }", &["api::g"]);
        check(super_stays_inside, "src/store/a/b.rs", "use super::super::c;", &[]);
        check(super_stays_inside, "src/store/a.rs", "mod b { use super::super::c; }", &[]);
        check(super_stays_inside, "src/store/a.rs", "mod b { use super::super::super::c; }", &["c"]);
        check(super_stays_inside, "src/store/a.rs", "pub(super) fn f() {}", &[]);
    }

    #[test]
    fn io_in_a_pure_module() {
        let at = "src/model/a.rs";
        check(pure_is_pure, at, "use std::{fmt, fs};", &["std::fs"]);
        check(pure_is_pure, at, "fn f() { std::thread::yield_now() }", &["std::thread::yield_now"]);
        check(pure_is_pure, at, "fn f(n: tokio::sync::Notify) {}\nuse axum as a;", &["tokio", "axum"]);
        check(pure_is_pure, at, "fn f() { Instant::now(); std::time::SystemTime::now(); }", &["now", "now"]);
        check(pure_is_pure, at, "fn f() -> TimeMs { TimeMs::now() }", &["TimeMs::now"]);
        check(pure_is_pure, at, "fn f(t: Instant) { t.elapsed() }", &["elapsed"]);
        check(pure_is_pure, at, "fn f(now: Instant, t: Age) -> u64 { t.elapsed }", &[]);
        check(pure_is_pure, at, "#[cfg(test)]\nmod tests { use std::fs; }", &[]);
        check(pure_is_pure, "src/store/a.rs", "use std::fs;", &[]);
    }

    #[test]
    fn a_file_without_documentation_or_end() {
        check(opens_with_documentation, "src/store/a.rs", "// Stores.\nfn f() {}", &["//!"]);
        check(opens_with_documentation, "src/store/a.rs", "//!\nfn f() {}", &["//!"]);
        check(opens_with_documentation, "src/lib.rs", "#![doc = include_str!(\"../A.md\")]", &[]);
        check(opens_with_documentation, "src/store/a.rs", "//! Stores.\nfn f() {}", &[]);
        let long = "//! x\n".repeat(601);
        check(is_short, "src/store/a.rs", &long, &["601 lines"]);
        let tests = format!("//! Short.\n#[cfg(test)]\n#[expect(a)]\nmod tests {{\n{}}}", "\n".repeat(900));
        check(is_short, "src/store/a.rs", &tests, &[]);
    }

    #[test]
    fn logic_in_a_mod_file() {
        check(mod_file_has_no_logic, "src/store/mod.rs", "//! S.\nmod a;\npub use a::B;\nfn f() {}", &["fn"]);
        check(mod_file_has_no_logic, "src/store/mod.rs", "mod a { fn f() {} }", &["mod a"]);
        check(mod_file_has_no_logic, "src/store/mod.rs", "#[cfg(test)]\nmod tests { fn f() {} }", &[]);
        check(mod_file_has_no_logic, "src/store/row.rs", "fn f() {}", &[]);
    }

    #[test]
    fn a_serializable_type_inside() {
        let derived = "#[derive(Debug, serde::Serialize)]\nstruct A;";
        check(only_boundaries_serialize, "src/model/a.rs", derived, &["Serialize"]);
        check(only_boundaries_serialize, "src/store/row.rs", derived, &[]);
        check(only_boundaries_serialize, "src/store/row/task.rs", derived, &[]);
        check(only_boundaries_serialize, "src/store/rows.rs", derived, &["Serialize"]);
        check(only_boundaries_serialize, "tests/it/a.rs", derived, &[]);
        let written = "impl<'de> Deserialize<'de> for A {}";
        check(only_boundaries_serialize, "src/api/mod.rs", written, &["Deserialize"]);
        let conditional = "#[cfg_attr(feature = \"x\", derive(Deserialize))]\nenum A {}";
        check(only_boundaries_serialize, "src/broker/a.rs", conditional, &["Deserialize"]);
    }

    #[test]
    fn a_test_switched_off_or_work_left() {
        let ignored = "#[cfg(test)]\nmod tests { #[test]\n#[ignore = \"slow\"]\nfn a() {} }";
        check(no_ignored_test, "src/store/a.rs", ignored, &["ignore"]);
        check(no_ignored_test, "tests/it/a.rs", "#[test]\nfn ignore() {}", &[]);
        let left = concat!("// TO", "DO: later\n/* FIX", "ME */\nlet todos = 1;");
        assert_eq!(marks("a.rs", left).len(), 2);
    }

    #[test]
    fn something_forgotten() {
        let files = ["cli", "main", "ws"].map(str::to_owned).into();
        assert_eq!(unlisted(&files, "mod ws;\n// mod cli;\n"), ["tests/it/main.rs does not list `mod cli;`"]);
        let folders = ["control", "state"].map(str::to_owned).into();
        assert_eq!(unused(&folders, "read(\"fixtures/control/3.4\")"), ["fixtures/state: no test reads it"]);
        let (clippy, cargo) = (text("clippy.toml"), text("Cargo.toml"));
        assert_eq!(missing_lints(&clippy.replace("tokio::spawn", ""), &cargo), ["tokio::spawn"]);
        assert_eq!(
            missing_lints(&clippy.replace("= 70", "= 700"), &cargo),
            ["too-many-lines-threshold = 70"]
        );
        let loose = cargo.replace("unwrap_used = \"deny\"", "");
        assert_eq!(missing_lints(&clippy, &loose), ["unwrap_used = \"deny\""]);
    }

    #[test]
    fn test_files_are_found_by_their_declaration() {
        let mut sources = vec![
            Source::new("src/store/mod.rs", "#[cfg(test)]\nmod story;\nmod row;"),
            Source::new("src/store/row.rs", "#[cfg(test)]\nmod tests;"),
            Source::new("src/store/row/tests.rs", "use std::fs;"),
            Source::new("src/store/story/long.rs", "use std::fs;"),
            Source::new("src/store/storytell.rs", "use std::fs;"),
        ];
        source::mark_test_files(&mut sources);
        let marked: Vec<_> = sources.iter().map(|source| source.is_test).collect();
        assert_eq!(marked, [false, false, true, true, false]);
    }
}
