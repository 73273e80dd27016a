//! Every file under `fixtures/project` gives exactly what stands beside it; `UPDATE_EXPECT=1` writes that down anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
    let keys: String = (0..15_000).map(|i| format!("    k{i}: 1\n")).collect();
    let parsed = parse(&Source::new("f", format!("tasks:\n  test:\n    command: x\n{keys}")), None);
    assert_eq!(parsed.problems.len(), MAX_PROBLEMS + 1);
    assert!(parsed.problems[MAX_PROBLEMS].message.contains("more problems"));
}

/// Files of the largest size, each bad in its own way.
fn worst() -> Vec<(&'static str, String)> {
    let fill = |head: &str, piece: &dyn Fn(usize) -> String| {
        let mut text = head.to_owned();
        for i in 0.. {
            let next = piece(i);
            if text.len() + next.len() > 256 * 1024 {
                break;
            }
            text.push_str(&next);
        }
        text
    };
    let merges = |i: usize| {
        if i == 0 {
            "m0: &m0 {k: 1}\n".to_owned()
        } else {
            format!("m{i}: &m{i} {{<<: [*m{}, *m{}]}}\n", i - 1, i - 1)
        }
    };
    vec![
        ("unknown keys", fill("tasks:\n  test:\n", &|i| format!("    k{i}: 1\n"))),
        ("tasks", fill("tasks:\n", &|i| format!("  T{i}: {{x: 1}}\n"))),
        ("duplicates", fill("tasks:\n  test:\n", &|_| "    k: 1\n".to_owned())),
        ("one command", fill("tasks:\n  test:\n    command: ", &|_| "é".to_owned())),
        ("one key", fill("tasks:\n  ", &|_| "k".to_owned())),
        ("env", fill("tasks:\n  test:\n    env:\n", &|i| format!("      K{i}: {i}\n"))),
        ("aliases", fill("a: &a 1\nb: [", &|_| "*a,".to_owned())),
        ("anchors", fill("", &|i| format!("k{i}: &a{i} 1\n"))),
        ("merges", fill("", &merges)),
        ("brackets", fill("a: ", &|_| "[".to_owned())),
        ("dashes", fill("", &|_| "- ".to_owned())),
        ("questions", fill("", &|_| "? ".to_owned())),
        ("colons", fill("", &|_| "a: ".to_owned())),
        ("commas", fill("[", &|_| "a,".to_owned())),
        ("braces", fill("{", &|_| "a: {},".to_owned())),
        ("documents", fill("", &|_| "---\n".to_owned())),
        ("comments", fill("", &|_| "#\n".to_owned())),
        ("newlines", fill("", &|_| "\n".to_owned())),
        ("quotes", fill("a: \"", &|_| "\\n".to_owned())),
        ("folded", fill("a: >\n", &|_| "  x\n\n".to_owned())),
        ("plain lines", fill("a:\n", &|_| " x\n".to_owned())),
        ("tags", fill("", &|i| format!("k{i}: !!str x\n"))),
        ("spaces", fill("a:", &|_| " ".to_owned())),
    ]
}

#[test]
fn no_file_of_the_largest_size_takes_long() {
    // Unoptimised and on a busy machine; a quadratic step would take minutes, the limit of a release build is 100 ms.
    let limit = if cfg!(debug_assertions) { Duration::from_secs(20) } else { Duration::from_millis(100) };
    for (name, text) in worst() {
        let main = Source::new("f", text);
        let start = Instant::now();
        let parsed = parse(&main, None);
        let shown = render(&parsed.problems, &[&main], false);
        let took = start.elapsed();
        println!("{name}: {took:?}, {} problems, {} bytes shown", parsed.problems.len(), shown.len());
        assert!(took < limit, "{name} took {took:?}");
        assert!(shown.len() < 200_000, "{name}");
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
