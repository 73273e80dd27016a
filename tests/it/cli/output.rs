//! What a run wrote, as commands show it: long, cut at its front, written over.

use std::io::Read as _;
use std::process::Stdio;

use super::home::Daemon;
use crate::harness::{Backend, World};

/// Lines of 64 bytes, more than are kept.
const COUNT: usize = 190_000;

#[tokio::test]
async fn a_long_transcript_is_told_whole_and_what_is_missing_first() {
    let world = World::new(Backend::Pty);
    let project = world.project("demo", "project: demo").await;
    // 12.2 MB, of which 10 MiB are kept: as JSON more than an answer may have that is held as a whole.
    let line = "x".repeat(62);
    let id = world.run_command(&project, &format!("yes {line} | head -n {COUNT}")).await;
    world.until_ended(&id).await;
    let total = world.instance(&id).await["output_bytes"].as_u64().unwrap();
    assert_eq!(total, COUNT as u64 * 64, "the terminal's own end of line is two bytes");
    let said = world.kas(&["logs", &id, "--json"]);
    assert_eq!(said.code, Some(0), "{:.300}", said.stderr);
    let told = said.json();
    let transcript = &told["transcript"];
    let missing = transcript["missing_bytes"].as_u64().unwrap();
    assert!(missing >= total - (10 << 20), "{missing} of {total}");
    assert_eq!(
        (&transcript["start_offset"], &told["instance"]["id"]),
        (&missing.into(), &id.as_str().into())
    );
    let lines = transcript["lines"].as_array().unwrap();
    let text: usize = lines.iter().map(|it| it["text"].as_str().unwrap().len() + 2).sum();
    assert!((total - missing).abs_diff(text as u64) <= 1, "{text} of {} bytes", total - missing);
    assert_eq!(lines.last().unwrap()["text"], line.as_str());
    let remark = format!("kas: the first {missing} bytes of the output are not kept any more\n");
    assert_eq!(said.stderr, remark);
    let logs = world.kas(&["logs", &id]);
    assert_eq!((logs.code, logs.stderr.as_str()), (Some(0), remark.as_str()));
    assert!(logs.stdout.ends_with(&format!("\n{line}\n")));
    let path = format!("/api/v1/tasks/{id}/transcript?format=text");
    let answer = world.get(&path).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.starts_with(&format!("[kas: the first {missing} bytes are not kept any more]\n")));
    assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), logs.stdout.lines().collect::<Vec<_>>());
    assert_eq!(answer.header("x-kas-start-offset"), Some(missing.to_string().as_str()));
}

#[test]
fn elsewhere_than_on_a_terminal_a_line_is_its_last_state() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    let bars = r"stty -echo; printf '\033[31mred\033[0m\n10%% done\r55%% done\n'; printf 'wheel |\b/\b-\n\033[6n'; printf 'left'";
    let ran = daemon.home.kas_in(&demo, &["run", "--wait", "--", bars]);
    assert_eq!(ran.stdout, "red\n55% done\nwheel -\nleft", "{ran:?}");
    // A question is shown while it waits for its answer.
    let ask = r"printf 'your name? '; read name; echo";
    let mut command = daemon.home.command(&demo, &["run", "--wait", "--", ask]);
    let mut asking = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut seen = [0; 11];
    asking.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"your name? ");
    asking.kill().unwrap();
    asking.wait().unwrap();
}
