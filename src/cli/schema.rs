//! `kas schema`: the JSON Schema of project files, for editors.

use std::io;

use super::output::{Output, code};
use crate::project::SCHEMA;

/// Print the JSON Schema of .kaged/project.yaml
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Accepted like everywhere; the schema is JSON anyway
    #[arg(long)]
    json: bool,
}

/// Prints the schema.
///
/// # Errors
/// Those of the streams.
pub fn run(_args: &Args, output: &mut Output<'_>) -> io::Result<u8> {
    output.out.write_all(SCHEMA.as_bytes())?;
    Ok(code::OK)
}
