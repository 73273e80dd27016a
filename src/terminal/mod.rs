//! What a terminal would make of a byte stream: safe places to cut it, its screen as a dump, its plain text.

mod buffer;
mod cell;
mod charset;
mod colours;
mod dump;
mod mark;
mod modes;
mod parser;
mod plain;
mod question;
mod scanner;
mod screen;
mod sgr;
mod shown;
mod state;
mod tables;
mod theme;
mod width;

pub use mark::{Mark, Piece, Splitter};
pub use plain::{Plain, TextPiece};
pub use question::{Question, Questions, Replies};
pub use scanner::{Scanner, last_safe_cut};
pub use screen::Screen;
pub use shown::{is_harmful, shown};
pub use theme::{Rgb, Theme};
