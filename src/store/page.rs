//! Lists in pages.

use super::Page;

/// Items of a page at most (`spec/protocol.md` §2).
const MOST: u32 = 500;

/// A wished number of items, brought into 1..=500.
pub(super) fn limit(wish: usize) -> u32 {
    u32::try_from(wish).unwrap_or(MOST).clamp(1, MOST)
}

/// A page of at most `limit` from a query that asked for one more.
pub(super) fn page<T>(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Page<T> {
    let limit = limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = if more { items.last().map(cursor) } else { None };
    Page { items, next_cursor }
}
