//! Every file under `fixtures/project` gives exactly what stands beside it; `UPDATE_EXPECT=1` writes that down anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kas::cli::output::Output;
use kas::cli::{check, schema};
use kas::project::{MAX_PROBLEMS, Parsed, Source, parse, render};
use serde_json::Value;

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/project").join(kind);
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_main = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".yaml") && !name.ends_with(".local.yaml")
    };
    let mut found: Vec<PathBuf> = all.filter(is_main).collect();
    found.sort();
    found
}

fn source(path: &Path) -> Option<Source> {
    let name = path.file_name().unwrap().to_str().unwrap();
    fs::read(path).ok().map(|text| Source::new(name, text))
}

fn read(path: &Path) -> (Parsed, String) {
    let main = source(path).unwrap();
    let local = source(&path.with_extension("local.yaml"));
    let parsed = parse(&main, local.as_ref());
    let sources: Vec<&Source> = local.iter().chain([&main]).collect();
    let shown = render(&parsed.problems, &sources, false);
    (parsed, shown)
}

/// Compares with the file beside the fixture, or rewrites it; returns what differs.
fn compare(path: &Path, found: &str) -> Option<String> {
    let beside = path.with_extension("txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&beside, found).unwrap();
    }
    let expect = fs::read_to_string(&beside).unwrap_or_default();
    (expect != found).then(|| format!("{}\n--- expected\n{expect}\n--- found\n{found}", beside.display()))
}

#[test]
fn good_files_give_their_tasks() {
    let files = fixtures("ok");
    assert!(files.len() >= 10);
    let differences: Vec<String> = files.iter().filter_map(|path| compare(path, &good(path))).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn good(path: &Path) -> String {
    let (parsed, shown) = read(path);
    assert!(parsed.problems.is_empty(), "{}: {shown}", path.display());
    format!("{:#?}\n", parsed.project.unwrap())
}

#[test]
fn bad_files_give_their_problems() {
    let files = fixtures("err");
    assert!(files.len() >= 35);
    let differences: Vec<String> = files.iter().filter_map(|path| compare(path, &bad(path))).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn bad(path: &Path) -> String {
    let (parsed, shown) = read(path);
    assert!(parsed.project.is_none() && !parsed.problems.is_empty(), "{}", path.display());
    let control = |c: char| c.is_control() && c != '\n';
    for problem in &parsed.problems {
        assert!(problem.line >= 1 && problem.column >= 1, "{problem}");
        assert!(!problem.to_string().contains(control), "{problem}");
    }
    assert!(!shown.contains(control), "{shown:?}");
    shown
}

#[test]
fn the_list_of_problems_is_bounded_and_says_so() {
    let keys: String = (0..4_000).map(|i| format!("    k{i}: 1\n")).collect();
    let parsed = parse(&Source::new("f", format!("tasks:\n  test:\n    command: x\n{keys}")), None);
    assert_eq!(parsed.problems.len(), MAX_PROBLEMS + 1);
    assert!(parsed.problems[MAX_PROBLEMS].message.contains("more problems"));
}

/// Parses and shows whatever it is; the outcome must make sense.
fn survive(text: &[u8]) {
    let main = Source::new("f", text);
    let parsed = parse(&main, None);
    assert_eq!(parsed.project.is_some(), parsed.problems.is_empty());
    for problem in &parsed.problems {
        assert!(problem.span.start <= problem.span.end && problem.span.end <= main.text.len(), "{problem:?}");
        assert_eq!(main.position(problem.span.start), (problem.line, problem.column));
    }
    let shown = render(&parsed.problems, &[&main], false);
    assert!(shown.matches("error: ").count() >= parsed.problems.len());
}

#[test]
fn a_file_cut_anywhere_is_survived() {
    for path in fixtures("ok").into_iter().chain(fixtures("err")) {
        let text = fs::read(path).unwrap();
        let step = if text.len() > 1000 { 97 } else { 1 };
        for cut in (0..text.len()).step_by(step) {
            survive(&text[..cut]);
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_soup_of_yaml_is_survived(soup in proptest::collection::vec(proptest::sample::select(SOUP), 0..60)) {
        survive(soup.concat().as_bytes());
        survive(format!("tasks:\n  test:\n{}", soup.concat()).as_bytes());
    }
}

const SOUP: &[&str] = &[
    "tasks:",
    "test",
    ": ",
    "command",
    "env",
    "\n",
    "\n  ",
    "\n    ",
    "\n      ",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "<<: ",
    "!t ",
    "!!str ",
    "|\n",
    ">\n",
    "\"",
    "'",
    "#",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "\t",
    "é",
    "🎉",
    "1",
    "true",
    "null",
    "~",
    "\r\n",
    "\\0",
    "\\u0000",
    "\u{2028}",
    "\u{85}",
    "\u{feff}",
    "@",
    "`",
    "history_count: ",
    "3.0",
    ".nan",
    "1e999",
    "99999999999999999999",
    "project: ",
    "cwd: ",
];

/// `head` and as many pieces as fit into the largest file, at most `count`.
fn fill(head: &str, count: usize, piece: &dyn Fn(usize) -> String) -> String {
    let mut text = head.to_owned();
    for i in 0..count {
        let next = piece(i);
        if text.len() + next.len() > 256 * 1024 {
            break;
        }
        text.push_str(&next);
    }
    text
}

/// Large files, each bad in its own way: those that fill the size, and those with just as many keys as are allowed.
fn worst() -> Vec<(&'static str, String)> {
    let merges = |i: usize| match i {
        0 => "m0: &m0 {k: 1}\n".to_owned(),
        _ => format!("m{i}: &m{i} {{<<: [*m{}, *m{}]}}\n", i - 1, i - 1),
    };
    let same = |text: &'static str| move |_: usize| text.to_owned();
    let full = |head: &str, piece: &dyn Fn(usize) -> String| fill(head, usize::MAX, piece);
    vec![
        ("unknown keys", fill("tasks:\n  test:\n", 4_990, &|i| format!("    k{i:0>40}: 1\n"))),
        ("tasks", fill("tasks:\n", 2_490, &|i| format!("  T{i:0>40}: {{x{i:0>40}: 1}}\n"))),
        ("bad tasks", fill("tasks:\n", 4_990, &|i| format!("  t{i:0>30}: {i:0>10}\n"))),
        ("duplicates", fill("tasks:\n  test:\n", 4_990, &same("    k: 1\n"))),
        ("env", fill("tasks:\n  test:\n    env:\n", 4_990, &|i| format!("      K{i:0>30}: {i}\n"))),
        ("anchors", fill("", 4_990, &|i| format!("k{i}: &a{i} 1\n"))),
        ("aliases", fill("a: &a 1\nb: [", 9_900, &same("*a,"))),
        ("tags", fill("", 4_990, &|i| format!("k{i}: !!str x\n"))),
        ("sequence", fill("a: [", 9_900, &same("a,")) + "]"),
        ("many keys", full("tasks:\n  test:\n", &|i| format!("    k{i}: 1\n"))),
        ("merges", full("", &merges)),
        ("one command", full("tasks:\n  test:\n    command: ", &same("é"))),
        ("one key", full("tasks:\n  ", &same("k"))),
        ("brackets", full("a: ", &same("["))),
        ("dashes", full("", &same("- "))),
        ("questions", full("", &same("? "))),
        ("colons", full("", &same("a: "))),
        ("commas", full("[", &same("a,"))),
        ("braces", full("{", &same("a: {},"))),
        ("documents", full("", &same("---\n"))),
        ("comments", full("", &same("#\n"))),
        ("newlines", full("", &same("\n"))),
        ("quotes", full("a: \"", &same("\\n"))),
        ("folded", full("a: >\n", &same("  x\n\n"))),
        ("plain lines", full("a:\n", &same(" x\n"))),
        ("spaces", full("a:", &same(" "))),
    ]
}

/// Time this thread has been computing, whatever else the machine does.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

#[test]
fn no_file_of_the_largest_size_takes_long() {
    // An unoptimised build is several times slower; a quadratic step would take minutes.
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 100 });
    for (name, text) in worst() {
        let main = Source::new("f", text);
        let start = cpu_time();
        let parsed = parse(&main, None);
        let shown = render(&parsed.problems, &[&main], false);
        let took = cpu_time().saturating_sub(start);
        println!("{name}: {took:?}, {} problems, {} bytes shown", parsed.problems.len(), shown.len());
        assert!(took < limit, "{name} took {took:?}");
        assert!(shown.len() < 100_000, "{name}");
    }
}

/// Runs `kas check` in `cwd` as if by arguments; exit code, stdout, stderr without colours.
fn run_check(cwd: &Path, args: &[&str]) -> (u8, String, String) {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: check::Args,
    }
    let cli = <Cli as clap::Parser>::try_parse_from([&["check"], args].concat()).unwrap();
    let (mut out, mut err) = (Vec::new(), anstream::StripStream::new(Vec::new()));
    let exit = check::run(&cli.args, cwd, &mut Output { out: &mut out, err: &mut err }).unwrap();
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err.into_inner()).unwrap())
}

fn project(main: &str) -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().canonicalize().unwrap();
    fs::create_dir(dir.join(".kaged")).unwrap();
    fs::write(dir.join(".kaged/project.yaml"), main).unwrap();
    (temp, dir)
}

#[test]
fn check_says_ok_from_anywhere_inside() {
    let (_temp, dir) = project("project: shop\ntasks:\n  test: {command: x}\n  lint: {command: y}\n");
    fs::create_dir_all(dir.join("a/b")).unwrap();
    let expect = "ok .kaged/project.yaml, 2 tasks: test, lint\n";
    assert_eq!(run_check(&dir, &[]), (0, expect.to_owned(), String::new()));
    assert_eq!(run_check(&dir.join("a/b"), &[]).0, 0);
    for path in [".", ".kaged", ".kaged/project.yaml", "../../"] {
        let cwd = if path == "../../" { dir.join("a/b") } else { dir.clone() };
        assert_eq!(run_check(&cwd, &[path]).0, 0, "{path}");
    }
    let (exit, out, _) = run_check(&dir, &["--json"]);
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (exit, &out["ok"], &out["project"], &out["tasks"][0]),
        (0, &true.into(), &"shop".into(), &"test".into())
    );
}

#[test]
fn check_shows_problems_and_exits_4() {
    let (_temp, dir) = project("tasks:\n  test:\n    comand: x\n");
    fs::write(dir.join(".kaged/project.local.yaml"), "tasks:\n  mine: {}\n").unwrap();
    let (exit, out, err) = run_check(&dir, &[]);
    assert_eq!((exit, out.as_str()), (4, ""));
    for part in
        [".kaged/project.yaml:3:5", "did you mean `command`?", ".kaged/project.local.yaml:2:3", "2 problems"]
    {
        assert!(err.contains(part), "{part:?} not in\n{err}");
    }
    let (exit, out, err) = run_check(&dir, &["--json"]);
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, err.as_str(), &out["ok"]), (4, "", &false.into()));
    let problems = out["error"]["details"]["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2);
    assert_eq!((&problems[0]["line"], &problems[0]["path"]), (&3.into(), &"/tasks/test/comand".into()));
}

#[test]
fn check_exits_3_when_there_is_nothing_and_4_when_it_is_no_file() {
    let temp = tempfile::tempdir().unwrap();
    assert_eq!(run_check(temp.path(), &["."]).0, 3);
    assert_eq!(run_check(temp.path(), &["nothing.yaml"]).0, 3);
    let fifo = temp.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let (exit, _, err) = run_check(temp.path(), &["fifo"]);
    assert!(exit == 4 && err.contains("a pipe, not a file"), "{exit} {err}");
}

#[test]
fn schema_prints_the_committed_schema() {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: schema::Args,
    }
    let cli = <Cli as clap::Parser>::try_parse_from(["schema"]).unwrap();
    assert_eq!(schema::run(&cli.args, &mut Output { out: &mut out, err: &mut err }).unwrap(), 0);
    assert_eq!(
        out,
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("grammar/project.schema.json")).unwrap()
    );
}
