//! `kas debug screen`: what a viewer is sent that cannot have every byte.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::{PIECE_BYTES, open};
use crate::terminal::Screen;

/// Arguments of `kas debug screen`.
#[derive(Debug, Args)]
pub(super) struct ScreenArgs {
    /// What a program wrote to its terminal; `-` is standard input
    file: PathBuf,
    /// The terminal's size
    #[arg(long, default_value_t = 80)]
    cols: u16,
    #[arg(long, default_value_t = 24)]
    rows: u16,
    /// The most lines above the screen
    #[arg(long, value_name = "LINES", default_value_t = 2000)]
    scrollback: usize,
    /// After so many bytes the terminal has another size
    #[arg(long, value_name = "OFFSET:COLSxROWS", value_parser = resize)]
    resize: Vec<(usize, u16, u16)>,
}

fn resize(text: &str) -> Result<(usize, u16, u16), String> {
    let parts = text.split_once(':').and_then(|(at, size)| Some((at, size.split_once('x')?)));
    let read =
        parts.and_then(|(at, (cols, rows))| Some((at.parse().ok()?, cols.parse().ok()?, rows.parse().ok()?)));
    read.ok_or_else(|| "a size is OFFSET:COLSxROWS, as 1000:80x24".to_owned())
}

/// Writes the state of the terminal after the stream; answers the exit code.
pub(super) fn run(args: &ScreenArgs) -> anyhow::Result<u8> {
    let mut screen = Screen::new(args.cols, args.rows, args.scrollback);
    let mut input = open(&args.file)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    loop {
        for (_, cols, rows) in args.resize.iter().filter(|(offset, ..)| *offset == at) {
            screen.resize(*cols, *rows);
        }
        let next =
            args.resize.iter().map(|(offset, ..)| offset - at.min(*offset)).filter(|more| *more > 0).min();
        let room = next.unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let len =
            input.read(&mut piece[..room]).with_context(|| format!("cannot read {}", args.file.display()))?;
        if len == 0 {
            break;
        }
        screen.feed(&piece[..len]);
        at += len;
    }
    let mut out = io::stdout().lock();
    out.write_all(&screen.dump()).and_then(|()| out.flush()).context("cannot write")?;
    Ok(0)
}
