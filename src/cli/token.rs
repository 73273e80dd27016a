//! `kas token`: credentials for programs that use HTTP.

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::context::Context;
use super::error::Error;
use super::output::code;
use super::table::write;
use super::tty;

/// Make, list and revoke tokens for programs that use HTTP
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it; it is shown this once
    Create {
        /// What it may do
        #[arg(long, value_enum, default_value = "run")]
        scope: Scope,
        /// What it is for
        #[arg(long)]
        name: Option<String>,
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

pub(super) async fn run(args: Args, mut context: Context<'_>) -> Result<u8, Error> {
    match args.command {
        TokenCommand::Create { scope, name } => {
            let mut request = json!({"scope": scope.word()});
            if let Some(name) = name {
                request["name"] = name.into();
            }
            let made = context.client.post("/v1/tokens", &request).await?;
            let token = made["token"].as_str().unwrap_or_default().to_owned();
            context.print(&made, &token)?;
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
    let text = |it: &serde_json::Value, key: &str| it[key].as_str().unwrap_or("-").to_owned();
    let rows: Vec<Vec<String>> =
        items.map(|it| ["id", "scope", "name"].map(|key| text(it, key)).to_vec()).collect();
    Ok(write(context.output.out, &["ID", "SCOPE", "NAME"], &rows, tty::columns())?)
}
