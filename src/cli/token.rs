//! `kas token`: credentials for programs that use HTTP, and links for people who may look.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::context::Context;
use super::error::Error;
use super::output::code;
use super::table::{span, write};
use super::tty;
use crate::model::TimeMs;

/// Make, list and revoke tokens for programs that use HTTP, and links for people who may look
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it; it is shown this once. One of scope view also comes as a link to the page
    Create {
        /// What it may do
        #[arg(long, value_enum, default_value = "run")]
        scope: Scope,
        /// What it is for
        #[arg(long)]
        name: Option<String>,
        /// Show this task of the project and nothing else; with --scope view
        #[arg(long, value_name = "NAME")]
        task: Option<String>,
        /// When it stops working by itself: 90s, 30m, 1h, 7d
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<i64>,
    },
    /// List tokens, without their secrets
    List,
    /// Make a token useless
    Revoke {
        /// As `list` tells it
        id: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scope {
    /// Look at projects, runs and output
    View,
    /// And launch, type, stop, delete
    Run,
    /// And change projects, tokens and the daemon
    Full,
}

impl Scope {
    const fn word(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Run => "run",
            Self::Full => "full",
        }
    }
}

/// A time as `span` writes it, in seconds.
fn seconds(text: &str) -> Result<i64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let found = units.iter().find_map(|(unit, length)| Some((text.strip_suffix(*unit)?, *length)));
    let seconds =
        found.and_then(|(count, length)| count.parse::<u32>().ok().map(|it| i64::from(it) * length));
    seconds.filter(|it| *it > 0).ok_or_else(|| "not a time such as 90s, 30m, 1h or 7d".to_owned())
}

pub(super) async fn run(args: Args, mut context: Context<'_>) -> Result<u8, Error> {
    match args.command {
        TokenCommand::Create { scope, name, task, expires } => {
            let mut request = json!({"scope": scope.word(), "name": name, "expires_in": expires});
            if let Some(task) = task {
                request["project"] = context.project().await?.into();
                request["task"] = task.into();
            }
            let made = context.client.post("/v1/tokens", &request).await?;
            let token = made["token"].as_str().unwrap_or_default().to_owned();
            context.print(&made, &token)?;
            if let (Some(link), false) = (made["link"].as_str(), context.global.json) {
                context.remark(&format!("a browser with this link may look: {link}"))?;
            }
        }
        TokenCommand::List => list(&mut context).await?,
        TokenCommand::Revoke { id } => {
            if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            {
                return Err(Error::not_found("token", format!("no token {id:?}")));
            }
            context.client.delete(&format!("/v1/tokens/{id}")).await?;
            context.print(&json!({"revoked": id}), &format!("revoked {id}"))?;
        }
    }
    Ok(code::OK)
}

async fn list(context: &mut Context<'_>) -> Result<(), Error> {
    let list = context.client.get("/v1/tokens").await?;
    if context.global.json {
        return Ok(context.output.json(&json!({"items": list["items"]}))?);
    }
    let items = list["items"].as_array().into_iter().flatten();
    let now = TimeMs::now().0;
    let rows: Vec<Vec<String>> = items.map(|it| row(it, now)).collect();
    Ok(write(context.output.out, &["ID", "SCOPE", "SHOWS", "WORKS", "NAME"], &rows, tty::columns())?)
}

fn row(token: &Value, now: i64) -> Vec<String> {
    let text = |key: &str| token[key].as_str().map(str::to_owned);
    let shows = text("project").zip(text("task")).map(|(project, task)| format!("{project}/{task}"));
    let works = match (token["revoked_at"].as_i64(), token["expires_at"].as_i64()) {
        (Some(_), _) => "revoked".to_owned(),
        (None, None) => "for ever".to_owned(),
        (None, Some(end)) if end <= now => "expired".to_owned(),
        (None, Some(end)) => format!("for {}", span(end - now)),
    };
    let cells = [text("id"), text("scope"), shows.or(Some("all".to_owned())), Some(works), text("name")];
    cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned())).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, expect) in [("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604_800)] {
            assert_eq!(seconds(text), Ok(expect), "{text}");
        }
        for bad in ["", "h", "1", "0s", "-1h", "1.5h", "1w", "1 h", "99999999999d"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_says_what_a_token_shows_and_for_how_long() {
        let check = |token: Value, expect: [&str; 5]| assert_eq!(row(&token, 1000), expect, "{token}");
        check(json!({"id": "a", "scope": "run", "name": "ci"}), ["a", "run", "all", "for ever", "ci"]);
        let shared =
            json!({"id": "b", "scope": "view", "project": "p", "task": "t", "expires_at": 3_601_000});
        check(shared, ["b", "view", "p/t", "for 1h", "-"]);
        check(json!({"id": "c", "scope": "view", "expires_at": 1000}), ["c", "view", "all", "expired", "-"]);
        check(json!({"id": "d", "scope": "view", "revoked_at": 5}), ["d", "view", "all", "revoked", "-"]);
    }
}
