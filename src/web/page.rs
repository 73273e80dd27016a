//! Looks up files of the page as they were when the binary was built.

use std::borrow::Cow;

use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "src/web/dist"]
#[allow_missing = true]
struct Dist;

const INDEX: &str = "index.html";

const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>kas</title><p>This kas was built without its page: run scripts/ui, then \
                         build kas again. Meanwhile kas ps, kas logs and kas attach work.\n";

/// A file of the page, with what its response must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// The body.
    pub bytes: Cow<'static, [u8]>,
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// The `ETag`, quotes included: the same exactly as long as the bytes are.
    pub etag: String,
}

/// The file at `path`, without a leading slash (`"index.html"`, `"icon.svg"`); `""` is the index.
///
/// `None` when the page has no such file: the caller decides whether that is a route of the page, which the index serves, or a 404.
#[must_use]
pub fn asset(path: &str) -> Option<Asset> {
    let path = if path.is_empty() { INDEX } else { path };
    match Dist::get(path) {
        Some(file) => Some(built(path, file)),
        None => (path == INDEX).then(not_built),
    }
}

fn built(path: &str, file: EmbeddedFile) -> Asset {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Asset { bytes: file.data, content_type: content_type(path), etag: format!("\"{hex}\"") }
}

fn not_built() -> Asset {
    Asset {
        bytes: Cow::Borrowed(NOT_BUILT.as_bytes()),
        content_type: content_type(INDEX),
        etag: "\"not-built\"".to_owned(),
    }
}

/// What browsers are told; with `nosniff`, a wrong type would keep a script from running.
fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        Some("md" | "txt") => "text/plain; charset=utf-8",
        Some(_) | None => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_there_built_or_not() {
        let index = asset("").expect("the index");
        assert_eq!(index.content_type, "text/html; charset=utf-8");
        assert_eq!(asset(INDEX), Some(index.clone()));
        assert!(index.bytes.starts_with(b"<!doctype html>"));
        assert!(index.etag.starts_with('"') && index.etag.ends_with('"'));
    }

    #[test]
    fn a_built_page_brings_what_its_index_asks_for() {
        let index = asset("").expect("the index");
        let text = String::from_utf8(index.bytes.into_owned()).expect("UTF-8");
        let wanted = text.split('"').filter_map(|it| it.strip_prefix("/assets/"));
        for name in wanted {
            let found = asset(&format!("assets/{name}")).unwrap_or_else(|| panic!("{name} is embedded"));
            assert_ne!(found.content_type, "application/octet-stream", "{name}");
        }
    }

    #[test]
    fn nothing_outside_the_page_is_served() {
        for path in ["nothing.js", "../mod.rs", "/index.html", "assets", "assets/../../mod.rs"] {
            assert_eq!(asset(path), None, "{path}");
        }
    }

    #[test]
    fn types_follow_the_extension() {
        assert_eq!(content_type("assets/app-x.js"), "text/javascript; charset=utf-8");
        assert_eq!(content_type("LICENSE"), "application/octet-stream");
    }
}
