//! What a terminal would make of a byte stream: safe places to cut it, its screen as a dump, its plain text.

mod mark;
mod plain;
mod scanner;
mod screen;
mod shown;
mod watch;

pub use mark::{Mark, Piece, Splitter};
pub use plain::Plain;
pub use scanner::{Scanner, last_safe_cut};
pub use screen::Screen;
pub use shown::{is_harmful, shown};
