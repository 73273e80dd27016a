//! `kas open`: the page in a browser.

use std::process::{Command, Stdio};

use serde_json::json;

use super::context::Context;
use super::error::Error;
use super::output::code;
use crate::config::Env;

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
        if let Err(error) = browse(url) {
            context.remark(&format!("no browser was opened (xdg-open: {error})"))?;
        }
    }
    Ok(code::OK)
}

fn has_display(env: &Env) -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env.get(name).is_some_and(|it| !it.is_empty()))
}

#[expect(clippy::disallowed_methods, reason = "the desktop's own way to the operator's browser")]
fn browse(url: &str) -> std::io::Result<()> {
    let mut opener = Command::new("xdg-open");
    opener.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    opener.spawn().map(drop)
}
