//! What a program asks its terminal is answered at once and once, alike on both backends, also while nobody looks.

use serde_json::{Value, json};

use crate::harness::{Backend, Seen, Viewer, World};

/// Asks each question of its argument's lines (in hexadecimal), and after each whether the terminal works: what comes before that answer is
/// the question's. Writes it in hexadecimal, and at the end what came though nothing was asked, in so many seconds.
const ASKER: &str = r#"
use strict;
open(my $asked, '<', $ARGV[0]) or die;
open(my $told, '>', $ARGV[1]) or die;
system('stty raw -echo');
my $read = sub { my $bits = ''; vec($bits, 0, 1) = 1; my $more = ''; select($bits, undef, undef, $_[0]) or return; sysread(STDIN, $more, 4096) or return; $more };
$| = 1;
while (my $line = <$asked>) {
    chomp $line;
    syswrite(STDOUT, pack('H*', $line) . "\e[5n");
    my $got = '';
    while ($got !~ s/\e\[0n$//) { my $more = $read->(10); defined $more or last; $got .= $more }
    print $told unpack('H*', $got), "\n";
}
print $told 'later ', unpack('H*', $read->($ARGV[2]) // ''), "\n";
close $told;
"#;

/// Questions, and what is answered.
const ANSWERS: [(&str, &str); 18] = [
    ("\x1b[c", "\x1b[?1;2c"),
    ("\x1b[>c", "\x1b[>84;0;0c"),
    ("\x1b[=c", ""),
    ("\x1b[H\x1b[2Jab\r\nc漢\x1b[6n", "\x1b[2;4R"),
    ("\x1b[5;7H\x1b[?6n", "\x1b[?5;7R"),
    ("\x1b[>0q", concat!("\x1bP>|kas(", env!("CARGO_PKG_VERSION"), ")\x1b\\")),
    ("\x1b[18t", "\x1b[8;24;80t"),
    ("\x1b[?2004$p\x1b[?2004h\x1b[?2004$p\x1b[?2004l", "\x1b[?2004;2$y\x1b[?2004;1$y"),
    ("\x1b[?1049h\x1b[?1049$p\x1b[?1049l\x1b[?25$p\x1b[?2026$p", "\x1b[?1049;1$y\x1b[?25;1$y\x1b[?2026;2$y"),
    ("\x1b[4$p\x1b[?4242$p", "\x1b[4;2$y\x1b[?4242;0$y"),
    ("\x1b]10;?\x07", "\x1b]10;rgb:e2e2/e8e8/f0f0\x1b\\"),
    ("\x1b]11;?\x1b\\", "\x1b]11;rgb:0d0d/1111/1717\x1b\\"),
    ("\x1b]4;1;?;255;?\x07", "\x1b]4;1;rgb:ffff/6b6b/7f7f\x1b\\\x1b]4;255;rgb:eeee/eeee/eeee\x1b\\"),
    ("\x1b]4;1;#102030\x07\x1b]4;1;?\x07", "\x1b]4;1;rgb:1010/2020/3030\x1b\\"),
    ("\x1b[?u", "\x1b[?0u"),
    ("\x1b[31m\x1bP$qm\x1b\\\x1b[m", "\x1bP1$r0;31m\x1b\\"),
    // The usual way to learn whether a terminal knows something: what every terminal answers comes last.
    ("\x1b[?u\x1b[c", "\x1b[?0u\x1b[?1;2c"),
    ("nothing is asked\r\n\x1b]52;c;?\x07", ""),
];

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) async fn are_answered_once_and_alike(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", "project: demo\ntasks: {}").await;
    world.write("demo/ask.pl", ASKER);
    world.write("demo/asked", ANSWERS.map(|(question, _)| hex(question) + "\n").concat());
    let expect = ANSWERS.map(|(_, answer)| hex(answer) + "\n").concat() + "later \n";
    // Nobody looks.
    let id = world.run_command("demo", "perl ask.pl asked told 0.5").await;
    let done = world.until_ended(&id).await;
    assert_eq!(done["exit_code"], 0);
    let told = std::fs::read_to_string(world.path("demo/told")).unwrap();
    let answers = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(answers(&told), answers(&expect), "on {}", backend.word());
    // Two look, one of them late: what was asked is shown to it again, and it works in the terminal.
    let id = world.run_command("demo", "read go; perl ask.pl asked again 10").await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive", "cols": 80, "rows": 24})).await;
    viewer.type_in(seen.handle(), b"\r").await;
    viewer.follow(&mut seen, |seen| String::from_utf8_lossy(&seen.bytes).contains("nothing is asked")).await;
    let mut late = Viewer::open(&world, "demo").await;
    let mut shown = late.watch(&id, json!({"from": 0, "mode": "interactive", "cols": 80, "rows": 24})).await;
    late.follow(&mut shown, |seen| String::from_utf8_lossy(&seen.bytes).contains("nothing is asked")).await;
    late.type_in(shown.handle(), b"\r\r").await;
    late.follow(&mut shown, Seen::ended).await;
    assert_eq!(world.until_ended(&id).await["exit_code"], 0);
    let again = std::fs::read_to_string(world.path("demo/again")).unwrap();
    let typed = expect.replace("later \n", "later 0d0d\n");
    assert_eq!(answers(&again), answers(&typed), "watched on {}", backend.word());
}

/// Colours to tell, of which the background is told here.
fn colours(channel: &str, background: &str) -> Value {
    let palette = vec!["#010203"; 16];
    json!({"type": "pty.colours", "channel": channel, "foreground": "#a0b0c0", "background": background, "cursor": "#0000ff", "palette": palette})
}

pub(super) async fn colours_are_those_of_the_page_that_works_in_it(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", "project: demo\ntasks: {}").await;
    world.write("demo/ask.pl", ASKER);
    world.write(
        "demo/asked",
        ["\x1b]11;?\x07", "\x1b]10;?\x07", "\x1b]4;7;?\x07"].map(|it| hex(it) + "\n").concat(),
    );
    let told = |background: &str| {
        let answers = [&format!("11;rgb:{background}"), "10;rgb:a0a0/b0b0/c0c0", "4;7;rgb:0101/0202/0303"];
        answers.map(|it| hex(&format!("\x1b]{it}\x1b\\")) + "\n").concat() + "later \n"
    };
    let read = |name: &str| std::fs::read_to_string(world.path(&format!("demo/{name}"))).unwrap();
    let twice = "for it in one two; do read go; perl ask.pl asked $it 0; echo $it is asked; done";
    let id = world.run_command("demo", twice).await;
    let channel = format!("pty:task:{id}");
    let interactive = json!({"from": 0, "mode": "interactive", "cols": 80, "rows": 24});
    let (mut owner, mut other) = (Viewer::open(&world, "demo").await, Viewer::open(&world, "demo").await);
    let mut seen = owner.watch(&id, interactive.clone()).await;
    let shown = other.watch(&id, interactive).await;
    other.say(&colours(&channel, "#111111")).await;
    owner.say(&colours(&channel, "#ffffff")).await;
    owner.type_in(seen.handle(), b"\r").await;
    owner.follow(&mut seen, |seen| String::from_utf8_lossy(&seen.bytes).contains("one is asked")).await;
    assert_eq!(read("one"), told("ffff/ffff/ffff"), "{}", backend.word());
    // Whoever works there next is the one that counts, with what it told before.
    other.say(&json!({"type": "pty.resize", "channel": channel, "cols": 70, "rows": 20})).await;
    other.type_in(shown.handle(), b"\n").await;
    owner.follow(&mut seen, Seen::ended).await;
    assert_eq!(read("two"), told("1111/1111/1111"), "{}", backend.word());
    // A run that starts later has them from its first byte, though nobody looks.
    let id = world.run_command("demo", "perl ask.pl asked three 0").await;
    assert_eq!(world.until_ended(&id).await["exit_code"], 0);
    assert_eq!(read("three"), told("1111/1111/1111"), "{}", backend.word());
}
