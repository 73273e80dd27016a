//! `kas open`: the page in a browser.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::context::Context;
use super::error::Error;
use super::output::code;
use crate::config::Env;

/// The page in the control socket's directory that leads a browser to the daemon's.
const WAY: &str = "open.html";

/// Open the page in a browser, and print its address; it is good for one use within a minute
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only print the address
    #[arg(long)]
    no_browser: bool,
}

pub(super) async fn run(args: Args, mut context: Context<'_>) -> Result<u8, Error> {
    let ticket = context.client.post("/v1/ticket", &json!({})).await?;
    let Some(url) = ticket["url"].as_str() else {
        return Err(Error::failed(
            "no_http",
            "the daemon serves no page; `http_addr` in daemon.toml is empty",
        ));
    };
    context.print(&ticket, url)?;
    if !args.no_browser && !context.global.json && has_display(&Env::of_process()) {
        context.output.out.flush()?;
        let way = Path::new(&context.paths.runtime_dir).join(WAY);
        if let Err(error) = write_way(&way, url).and_then(|()| browse(&way)) {
            context.remark(&format!("no browser was opened (xdg-open: {error})"))?;
        }
    }
    Ok(code::OK)
}

fn has_display(env: &Env) -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env.get(name).is_some_and(|it| !it.is_empty()))
}

/// Writes a page that leads to the address and that only this user can read. Every user can read the arguments of a program (proc(5),
/// `cmdline`), and the ticket is all that it takes to be let in.
fn write_way(way: &Path, url: &str) -> io::Result<()> {
    let new = way.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let page = format!(
        "<!doctype html><meta charset=utf-8><meta name=referrer content=no-referrer><title>kas</title>\
        <meta http-equiv=refresh content='0;url={url}'><a href='{url}'>kas</a>\n"
    );
    file.write_all(page.as_bytes())?;
    fs::rename(new, way)
}

#[expect(clippy::disallowed_methods, reason = "the desktop's own way to the operator's browser")]
fn browse(way: &Path) -> io::Result<()> {
    let mut opener = Command::new("xdg-open");
    opener.arg(way).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    opener.spawn().map(drop)
}
