//! The built page, embedded.
//!
//! `ui/` is its source (TypeScript, SolidJS, xterm.js), `dist/` what `scripts/ui` builds from it. The binary builds without either: then
//! the index page says how to build it.

mod page;

pub use page::{Asset, asset};
