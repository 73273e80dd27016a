//! A Rust file as the rules want to see it: its items without the tests, and every path that its tokens name.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Item, ItemMod};

/// One parsed file.
pub(super) struct Source {
    /// Relative to the package, with `/`.
    pub path: String,
    pub text: String,
    pub file: syn::File,
    /// Compiled for tests only: an integration test, or a file declared under `#[cfg(test)]`.
    pub is_test: bool,
}

/// A path with at least two segments, as written, and how many modules of its own file surround it.
#[derive(Debug, PartialEq)]
pub(super) struct Named {
    pub segments: Vec<String>,
    pub depth: usize,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let is_test = path.starts_with("tests/") || path.starts_with("benches/");
        Self { path: path.to_owned(), text: text.to_owned(), file, is_test }
    }

    /// The path of the module that the file is: `src/store/row.rs` is `["store", "row"]`.
    pub(super) fn module(&self) -> Vec<&str> {
        let inner = self.path.strip_prefix("src/").unwrap_or_default().trim_end_matches(".rs");
        let segments = inner.split('/').filter(|segment| !["", "mod", "lib", "main"].contains(segment));
        segments.collect()
    }

    /// The tokens of the items outside test modules, with the depth of the inline module they stand in.
    pub(super) fn tokens(&self) -> Vec<(TokenStream, usize)> {
        let mut found = Vec::new();
        if !self.is_test {
            tokens_of(&self.file.items, 0, &mut found);
        }
        found
    }

    /// Every path named outside test modules, in `use` lines, in code and inside macros alike.
    pub(super) fn names(&self) -> Vec<Named> {
        let mut found = Vec::new();
        for (tokens, depth) in self.tokens() {
            let mut paths = Vec::new();
            paths_of(tokens, &[], &mut paths);
            found.extend(paths.into_iter().map(|segments| Named { segments, depth }));
        }
        found
    }
}

/// Marks the files that some parent declares under `#[cfg(test)]`.
pub(super) fn mark_test_files(sources: &mut [Source]) {
    let mut folders = Vec::new();
    for source in sources.iter() {
        let folder = source.path.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/lib");
        for item in &source.file.items {
            if let Item::Mod(ItemMod { ident, content: None, .. }) = item
                && is_for_tests(item)
            {
                folders.push(format!("{folder}/{ident}"));
            }
        }
    }
    for source in sources {
        let path = &source.path;
        let inside = |folder: &String| {
            path.strip_prefix(folder.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        source.is_test |= folders.iter().any(inside);
    }
}

/// Whether the item's own attributes keep it out of the product.
pub(super) fn is_for_tests(item: &impl ToTokens) -> bool {
    let mut tokens = item.to_token_stream().into_iter();
    while let Some(TokenTree::Punct(hash)) = tokens.next()
        && hash.as_char() == '#'
        && let Some(TokenTree::Group(attr)) = tokens.next()
    {
        let condition = attr.stream();
        if mentions(condition.clone(), "cfg")
            && mentions(condition.clone(), "test")
            && !mentions(condition, "not")
        {
            return true;
        }
    }
    false
}

/// Whether the identifier occurs anywhere in the tokens.
pub(super) fn mentions(tokens: TokenStream, name: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

fn tokens_of(items: &[Item], depth: usize, found: &mut Vec<(TokenStream, usize)>) {
    for item in items.iter().filter(|item| !is_for_tests(item)) {
        if let Item::Mod(ItemMod { content: Some((_, inner)), .. }) = item {
            tokens_of(inner, depth + 1, found);
        } else if let Item::Impl(block) = item {
            let mut block = block.clone();
            block.items.retain(|item| !is_for_tests(item));
            found.push((block.into_token_stream(), depth));
        } else {
            found.push((item.to_token_stream(), depth));
        }
    }
}

/// Collects paths of two segments and more. `prefix` is what stands before the braces of a `use` tree.
fn paths_of(tokens: TokenStream, prefix: &[String], found: &mut Vec<Vec<String>>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if ident == "as" && !prefix.is_empty() => drop(tokens.next()),
            TokenTree::Ident(ident) => {
                let mut path = prefix.to_vec();
                path.push(ident.to_string());
                let inner = continue_path(&mut tokens, &mut path);
                match inner {
                    Some(inner) => paths_of(inner, &path, found),
                    None if path.len() > 1 => found.push(path),
                    None => {}
                }
            }
            TokenTree::Group(group) => paths_of(group.stream(), &[], found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Follows `::segment` as far as it goes; answers the content of the braces when the path ends in a `use` tree.
fn continue_path(
    tokens: &mut std::iter::Peekable<impl Iterator<Item = TokenTree>>,
    path: &mut Vec<String>,
) -> Option<TokenStream> {
    while matches!(tokens.peek(), Some(TokenTree::Punct(colon)) if colon.as_char() == ':' && colon.spacing() == proc_macro2::Spacing::Joint)
    {
        tokens.next();
        tokens.next();
        match tokens.peek() {
            Some(TokenTree::Ident(ident)) => path.push(ident.to_string()),
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => path.push("*".to_owned()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner = group.stream();
                tokens.next();
                return Some(inner);
            }
            Some(TokenTree::Punct(_) | TokenTree::Literal(_) | TokenTree::Group(_)) | None => return None,
        }
        tokens.next();
    }
    None
}
