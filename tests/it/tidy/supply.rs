//! What comes from others comes as it was locked, and what is promised has its test. `cargo deny` in scripts/test holds the rest.

use serde_json::Value;

use super::{files, text};

/// Folders with a `package.json` and what was locked for it.
const NPM: [&str; 2] = ["src/web/ui", "tests/browser"];
/// The oldest xterm.js without a known way for output to become code or input.
const XTERM_FLOOR: (u64, u64, u64) = (6, 0, 0);

fn json(path: &str) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a lock file says against its `package.json`, or of a package that could be another one tomorrow.
fn loose(package: &Value, lock: &Value) -> Vec<String> {
    let mut said = Vec::new();
    for kind in ["dependencies", "devDependencies"] {
        if package[kind] != lock["packages"][""][kind] {
            said.push(format!("{kind} are not those that were locked"));
        }
        for (name, version) in package[kind].as_object().into_iter().flatten() {
            if numbers(version.as_str().unwrap_or_default()).is_none() {
                said.push(format!("{name} is not named by its exact version: {version}"));
            }
        }
    }
    for (place, it) in
        lock["packages"].as_object().into_iter().flatten().filter(|(place, _)| !place.is_empty())
    {
        let hashed = it["integrity"].as_str().is_some_and(|hash| hash.starts_with("sha512-"));
        let fetched = it["resolved"].as_str().is_none_or(|from| from.starts_with("https://"));
        if !hashed || !fetched {
            said.push(format!("{place} may be anything: {it}"));
        }
    }
    said
}

fn numbers(version: &str) -> Option<(u64, u64, u64)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let all = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(all)
}

/// Lines of a script that would take something newer than what was locked.
fn unlocked(script: &str) -> Vec<&str> {
    const BUILDS: [&str; 8] = ["build", "test", "clippy", "doc", "run", "bench", "install", "check"];
    let lines = script.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let takes = |line: &&str| {
        let builds = BUILDS.iter().any(|word| line.contains(&format!("cargo {word} ")));
        let denies = line.contains("cargo deny ");
        let resolves =
            ["npm install ", "npm i ", "npm update", "npx "].iter().any(|word| line.contains(word));
        // What runs the page's own build is a tool, and named.
        let tool = line.contains("npm install --prefix \"$ROOT/target/tools\"");
        (builds || denies) && !line.contains("--locked") || resolves && !tool
    };
    lines.filter(takes).collect()
}

#[test]
fn what_npm_brings_is_what_was_locked() {
    for folder in NPM {
        let said =
            loose(&json(&format!("{folder}/package.json")), &json(&format!("{folder}/package-lock.json")));
        assert!(said.is_empty(), "{folder}:\n{}", said.join("\n"));
    }
}

#[test]
fn every_script_builds_what_was_locked() {
    let scripts = std::fs::read_dir(super::root().join("scripts")).unwrap();
    let mut looked = 0;
    for script in scripts {
        let name = script.unwrap().file_name().into_string().unwrap();
        let text = text(&format!("scripts/{name}"));
        assert_eq!(unlocked(&text), Vec::<&str>::new(), "scripts/{name}");
        looked += usize::from(text.contains("--locked"));
    }
    assert!(looked >= 4, "only {looked} scripts build anything");
    assert!(files(&["mjs", "js"]).iter().all(|path| !text(path).contains("npm install")));
}

#[test]
fn the_terminal_is_not_older_than_its_floor() {
    let lock = json("src/web/ui/package-lock.json");
    let version = &lock["packages"]["node_modules/@xterm/xterm"]["version"];
    assert!(numbers(version.as_str().unwrap()) >= Some(XTERM_FLOOR), "@xterm/xterm is {version}");
    // What is off unless it is asked for.
    for path in files(&["ts", "tsx"]).iter().filter(|path| path.starts_with("src/web/ui/src/")) {
        let asks = ["allowProposedApi", "windowOptions", "addon-clipboard"].map(|it| text(path).contains(it));
        assert_eq!(asks, [false; 3], "{path}");
    }
}

#[test]
fn the_lists_of_what_may_be_in_the_program_are_asked() {
    let test = text("scripts/test");
    assert!(test.contains("\n    step supply-chain cargo deny --locked check bans licenses sources\n"));
    let deny: toml::Table = text("deny.toml").parse().unwrap();
    let banned: Vec<_> =
        deny["bans"]["deny"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    for name in ["openssl", "openssl-sys", "native-tls", "aws-lc-rs"] {
        assert!(banned.contains(&name), "{name} is not banned");
    }
    for key in ["unknown-registry", "unknown-git"] {
        assert_eq!(deny["sources"][key].as_str(), Some("deny"), "{key}");
    }
    assert!(deny["licenses"].get("exceptions").is_none() && deny["bans"].get("skip").is_none());
}

/// Planted faults: each rule must be able to fail.
#[test]
fn loose_ends_are_seen() {
    let lock = |version: &str, package: &str| -> Value {
        let text = format!(
            r#"{{"packages": {{"": {{"dependencies": {{"a": "{version}"}}}}, "node_modules/a": {package}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    let package = |version: &str| serde_json::json!({"dependencies": {"a": version}});
    let good = r#"{"integrity": "sha512-x"}"#;
    assert_eq!(loose(&package("1.2.3"), &lock("1.2.3", good)), Vec::<String>::new());
    assert!(loose(&package("1.2.4"), &lock("1.2.3", good))[0].contains("not those that were locked"));
    for version in ["^1.2.3", "~1.2.3", "1", "latest", "*", "1.2.3.4"] {
        assert!(loose(&package(version), &lock(version, good))[0].contains("exact version"), "{version}");
    }
    for bad in [r#"{}"#, r#"{"integrity": "sha512-x", "resolved": "http://evil.test/a.tgz"}"#] {
        assert!(loose(&package("1.2.3"), &lock("1.2.3", bad))[0].contains("may be anything"), "{bad}");
    }
    for bad in
        ["cargo build --release", "quietly x cargo test --lib", "npm install a", "npx a", "cargo deny check"]
    {
        assert_eq!(unlocked(bad), [bad]);
    }
    for good in ["cargo build --locked", "npm ci --prefix x", "# cargo build ", "cargo fmt --check"] {
        assert_eq!(unlocked(good), Vec::<&str>::new(), "{good}");
    }
    assert!(numbers("5.9.9") < Some(XTERM_FLOOR) && numbers("6.0.1") > Some(XTERM_FLOOR));
}

/// Tests that a text names and that are not there: `a::b::name` or `a::b::` for a whole module, or a file of the browser's tests.
fn unheld(said: &str, tests: &str) -> Vec<String> {
    let quoted = said.split('`').skip(1).step_by(2);
    let missing = quoted.filter(|name| match name.rsplit_once("::") {
        Some((path, name)) => {
            let module = path.rsplit("::").next().unwrap_or(path);
            let has = |text: String| tests.contains(&text);
            !has(format!("mod {module};")) || !name.is_empty() && !has(format!("fn {name}("))
        }
        None => name.ends_with(".mjs") && !super::root().join("tests/browser").join(name).is_file(),
    });
    missing.map(str::to_owned).collect()
}

#[test]
fn every_promise_and_every_threat_has_its_test() {
    let tests: String = files(&["rs"]).iter().map(|path| text(path)).collect();
    let (promises, threats) = (text("SECURITY.md"), text("docs/threats.md"));
    assert_eq!(unheld(&promises, &tests), Vec::<String>::new());
    assert!(promises.matches("::").count() > 10, "the promises name their tests");
    assert_eq!(unheld(&threats, &tests), Vec::<String>::new());
    let numbers = (1..=15).chain(20..).map(|number| format!("| S{number} |"));
    let rows: Vec<&str> = threats.lines().filter(|line| line.starts_with("| S")).collect();
    assert!(rows.len() >= 37, "a threat is gone");
    for (number, row) in numbers.zip(rows) {
        let tests = row.rsplit(" | ").next().unwrap();
        assert!(row.starts_with(&number) && (tests.contains("::") || tests.contains(".mjs")), "{row}");
    }
    let planted = unheld("`a::held` `a::gone` `b::` `x.test.mjs` `--raw`", "mod a;\nfn held() {}");
    assert_eq!(planted, ["a::gone", "b::", "x.test.mjs"]);
}
