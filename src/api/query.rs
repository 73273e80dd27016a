//! Query strings, strictly: unknown, repeated and malformed parameters are errors that name the parameter.

use axum::extract::Query as Pairs;
use axum::http::Uri;

use super::error::invalid;
use crate::daemon::{Answer, Page, Refusal};

/// Page lengths of lists (`spec/protocol.md` §2).
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 500;

/// The parameters not yet taken.
pub(super) struct Query(Vec<(String, String)>);

/// A wrong parameter.
fn wrong(name: &str, message: impl Into<String>) -> Refusal {
    invalid(message).reason("query").detail("field", name)
}

impl Query {
    /// The parameters of an address.
    pub(super) fn of(uri: &Uri) -> Answer<Self> {
        let pairs = Pairs::<Vec<(String, String)>>::try_from_uri(uri);
        pairs.map(|pairs| Self(pairs.0)).map_err(|error| invalid(error.to_string()).reason("query"))
    }

    /// Takes every value of a parameter.
    pub(super) fn all(&mut self, name: &str) -> Vec<String> {
        self.0.extract_if(.., |(key, _)| key == name).map(|(_, value)| value).collect()
    }

    /// Takes a parameter that may be given once.
    pub(super) fn one(&mut self, name: &str) -> Answer<Option<String>> {
        let mut values = self.all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(wrong(name, format!("`{name}` was given more than once"))),
        }
    }

    /// Takes a number that may be given once.
    pub(super) fn number(&mut self, name: &str) -> Answer<Option<i64>> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| wrong(name, format!("`{name}` is not a number")))
    }

    /// Takes `limit` and `cursor`.
    pub(super) fn page(&mut self) -> Answer<(usize, Option<String>)> {
        let limit = self.number("limit")?.map_or(Some(DEFAULT_LIMIT), |n| usize::try_from(n).ok());
        let limit = limit.filter(|n| (1..=MAX_LIMIT).contains(n));
        let limit = limit.ok_or_else(|| wrong("limit", format!("`limit` must be 1 to {MAX_LIMIT}")))?;
        Ok((limit, self.one("cursor")?))
    }

    /// Says which parameter nobody took, if there is one.
    pub(super) fn done(self) -> Answer<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(wrong(name, format!("unknown parameter `{name}`"))),
        }
    }
}

/// A page of a list that is in memory and ascends by `key`; the cursor is the last key shown.
pub(super) fn page_of<T, K: Ord + ToString>(
    items: Vec<T>,
    key: impl Fn(&T) -> K,
    limit: usize,
    after: Option<&K>,
) -> Page<T> {
    let mut rest = items.into_iter().filter(|item| after.is_none_or(|after| key(item) > *after));
    let items: Vec<T> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let next_cursor = items.last().filter(|_| more).map(|item| key(item).to_string());
    Page { items, next_cursor }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("http://h/x?{text}").parse().unwrap()).unwrap()
    }

    fn field<T>(answer: Answer<T>) -> String {
        let refusal = answer.err().unwrap();
        refusal.details["field"].as_str().unwrap().to_owned()
    }

    #[test]
    fn limits_are_1_to_500() {
        assert_eq!(query("").page().unwrap(), (50, None));
        assert_eq!(query("limit=500&cursor=a%20b").page().unwrap(), (500, Some("a b".into())));
        for bad in ["0", "501", "-1", "x", "", "99999999999999999999"] {
            assert_eq!(field(query(&format!("limit={bad}")).page()), "limit", "{bad}");
        }
    }

    #[test]
    fn what_nobody_asked_for_is_named() {
        let mut it = query("state=done&state=failed&foo=1");
        assert_eq!(it.all("state"), ["done", "failed"]);
        assert_eq!(field(it.done()), "foo");
        assert_eq!(field(query("cursor=a&cursor=b").page()), "cursor");
    }

    #[test]
    fn pages_follow_each_other() {
        let page = |after: Option<u32>| page_of(vec![1, 2, 3, 4, 5], |n| *n, 2, after.as_ref());
        assert_eq!((page(None).items, page(None).next_cursor), (vec![1, 2], Some("2".into())));
        assert_eq!((page(Some(3)).items, page(Some(3)).next_cursor), (vec![4, 5], None));
        assert_eq!(page(Some(9)).items, Vec::<u32>::new());
    }
}
