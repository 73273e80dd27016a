//! `.kaged/project.yaml` (with `project.local.yaml` merged over it) to a checked list of tasks, or every problem with its line and column.
//!
//! The way of a file: [`tree`] reads it for positions, duplicates and limits; [`value`] reads it again for values, applies `<<` and the
//! local file; [`schema`] validates; [`explain`] turns what the schema says into words; [`resolve`] makes typed tasks.

mod explain;
mod parse;
mod problem;
mod raw;
mod render;
mod resolve;
mod schema;
mod source;
mod suggest;
mod tree;
mod value;

pub use parse::{MAX_PROBLEMS, Parsed, parse};
pub use problem::{PROJECT_MOVED, Problem, Reason};
pub use render::render;
pub use resolve::{Project, TaskDef};
pub use schema::SCHEMA;
pub use source::{MAX_SOURCE_BYTES, Source};
pub use suggest::closest;
