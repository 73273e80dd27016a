//! Data of others never becomes code: names, commands, titles, variables and files that are written to be misread.

mod budgets;
mod cwd;
mod env;
mod lines;
mod moved;
mod sql;
mod terminal;
mod tmux;

/// Texts that shells, tmux's commands, formats and styles, terminals, logs, or people would take for something else.
const CORPUS: [&str; 36] = [
    "#(touch PWNED)",
    "##(touch PWNED)",
    "#{PWNED}",
    "#{l:PWNED}",
    "#{E:@PWNED}",
    "#{?1,#(touch PWNED),}",
    "#SPWNED",
    "#[fg=red]PWNED",
    "PWNED;",
    "PWNED\\;",
    "; touch PWNED",
    ";kill-server;PWNED",
    "x ; run-shell 'touch PWNED'",
    "a\nrun-shell 'touch PWNED'\n",
    "\n\nPWNED",
    "%exit PWNED",
    "%end 1 1 1\nPWNED",
    "%if 1 PWNED",
    "-tPWNED",
    "--PWNED",
    "$(touch PWNED)",
    "`touch PWNED`",
    "${PWNED}$PWNED",
    "'PWNED\"",
    "\\PWNED\\",
    "{ PWNED }",
    "=PWNED:1.0",
    "*PWNED?[a]",
    "%1PWNED@0$0",
    "~PWNED",
    "\u{1b}]2;PWNED\u{7}\u{1b}[2J\u{1b}]52;c;UFdORUQ=\u{1b}\\",
    "\u{1b}kPWNED\u{1b}\\",
    "\u{9b}2J\u{9d}0;PWNED\u{9c}",
    "\u{202e}DENWP\u{2066}PWNED\u{200e}",
    "\u{1}\u{7f}\u{8}PWNED\r2026-01-01T00:00:00Z  INFO ready",
    "é\u{301}\u{200b}\u{feff}PWNED\u{2028}😀",
];

/// A value in ASCII, as YAML reads it, and TOML its texts.
fn ascii(value: &serde_json::Value) -> String {
    let one = |c: char| match u32::from(c) {
        0..0x7f => c.to_string(),
        code @ 0x7f..0x1_0000 => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    };
    value.to_string().chars().map(one).collect()
}
