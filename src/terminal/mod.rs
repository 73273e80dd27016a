//! What a terminal would make of a byte stream: safe places to cut it, its screen as a dump, its plain text.
