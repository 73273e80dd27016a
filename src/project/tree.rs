//! Where everything of a YAML document stands, read from parser events; also the keeper of its limits.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::problem::shown;
use super::{MAX_PROBLEMS, Problem, Source};

/// The deepest nesting, aliases followed. A project file needs four levels.
const MAX_DEPTH: u32 = 32;
/// The most keys, values and aliases in a file. Sixty-four tasks with everything they can have need about a third.
const MAX_NODES: usize = 10_000;
/// The most that aliases may add, in bytes of text and [`NODE_WEIGHT`] for each node.
const MAX_EXPANSION: u64 = 256 * 1024;
const NODE_WEIGHT: u64 = 16;

/// Index of a node in [`Tree::nodes`]. An alias is the index of what it stands for.
type NodeId = usize;

#[derive(Debug)]
struct Node {
    /// Its bytes in the file.
    span: Range<usize>,
    kind: Kind,
    /// Bytes and nodes when every alias below is written out, as in [`MAX_EXPANSION`].
    weight: u64,
    /// Levels below, aliases followed; 0 for a scalar.
    height: u32,
}

#[derive(Debug)]
enum Kind {
    Scalar { text: String, plain: bool },
    Sequence(Vec<NodeId>),
    Mapping(Vec<(NodeId, NodeId)>),
}

/// One document with its positions.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    root: Option<NodeId>,
}

/// What was found at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The bytes of the key it stands under; for list items and the root, of the value.
    pub(super) key: Range<usize>,
    /// The bytes of the value.
    pub(super) value: Range<usize>,
}

impl Tree {
    /// Whether there is nothing in the document but comments, or a bare null.
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none_or(|root| match &self.nodes[root].kind {
            Kind::Scalar { text, plain } => *plain && matches!(text.as_str(), "" | "~" | "null"),
            Kind::Sequence(_) | Kind::Mapping(_) => false,
        })
    }

    /// The place of a path, looking through merge keys; `None` when the file does not have it.
    pub(super) fn locate(&self, path: &[String]) -> Option<Place> {
        let mut at = self.root?;
        let mut place = Place { key: self.nodes[at].span.clone(), value: self.nodes[at].span.clone() };
        for segment in path {
            let (key, value) = self.step(at, segment)?;
            place = Place { key: self.nodes[key].span.clone(), value: self.nodes[value].span.clone() };
            at = value;
        }
        Some(place)
    }

    fn step(&self, at: NodeId, segment: &str) -> Option<(NodeId, NodeId)> {
        match &self.nodes[at].kind {
            Kind::Scalar { .. } => None,
            Kind::Sequence(items) => {
                segment.parse().ok().and_then(|i: usize| items.get(i)).map(|&it| (it, it))
            }
            Kind::Mapping(entries) => {
                let own = entries.iter().rev().find(|(key, _)| self.text(*key) == Some(segment));
                own.copied().or_else(|| entries.iter().find_map(|entry| self.merged_step(entry, segment)))
            }
        }
    }

    /// The key in what a `<<` of this mapping names. Limits hold by [`MAX_DEPTH`].
    fn merged_step(&self, &(key, value): &(NodeId, NodeId), segment: &str) -> Option<(NodeId, NodeId)> {
        if self.text(key) != Some("<<") {
            return None;
        }
        match &self.nodes[value].kind {
            Kind::Scalar { .. } => None,
            Kind::Mapping(_) => self.step(value, segment),
            Kind::Sequence(items) => items.iter().find_map(|&item| match self.nodes[item].kind {
                Kind::Mapping(_) => self.step(item, segment),
                Kind::Scalar { .. } | Kind::Sequence(_) => None,
            }),
        }
    }

    fn text(&self, id: NodeId) -> Option<&str> {
        match &self.nodes[id].kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::Sequence(_) | Kind::Mapping(_) => None,
        }
    }
}

/// Reads one document. Problems that leave the tree usable (duplicate keys) go to `problems`.
///
/// # Errors
/// The problem that made reading on pointless: a syntax error, a limit, a second document, a tag.
pub(super) fn read(source: &Source, problems: &mut Vec<Problem>) -> Result<Tree, Problem> {
    let text = source.text()?;
    let mut builder = Builder::new(source, Offsets::of(text));
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| syntax_problem(source, &builder.offsets, &error))?;
        builder.event(event, span)?;
    }
    problems.append(&mut builder.problems);
    Ok(Tree { nodes: builder.nodes, root: builder.root })
}

fn syntax_problem(source: &Source, offsets: &Offsets, error: &saphyr_parser::ScanError) -> Problem {
    let at = offsets.byte(*error.marker()).min(source.text.len());
    let line_start = memchr::memrchr(b'\n', &source.text[..at]).map_or(0, |newline| newline + 1);
    let lines = if error.info().contains("tab") { usize::MAX } else { 1 };
    if let Some(tab) = indenting_tab(&source.text[line_start..], lines) {
        let tab = line_start + tab;
        return source.problem(tab..tab + 1, "a tab in the indentation").hint("indent with spaces");
    }
    let hint = syntax_hint(error.info(), &source.text[line_start..at], &source.text[at..]);
    source.problem(at..at + 1, format!("not valid YAML: {}", error.info())).maybe_hint(hint)
}

/// The first tab in the indentation of these lines.
fn indenting_tab(text: &[u8], lines: usize) -> Option<usize> {
    let mut start = 0;
    for line in text.split_inclusive(|&byte| byte == b'\n').take(lines) {
        let indent = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
        if let Some(tab) = indent.copied().position(|byte| byte == b'\t') {
            return Some(start + tab);
        }
        start += line.len();
    }
    None
}

/// What usually is behind such an error, by its words and by the text of its line before it and all after it.
fn syntax_hint(info: &str, before: &[u8], after: &[u8]) -> Option<String> {
    let before = String::from_utf8_lossy(before);
    let in_value = before.contains(": ");
    let hint = if info.contains("unknown anchor") {
        "an alias needs its `&name` above it; quote the value if it is meant as text"
    } else if info.contains("quoted scalar") {
        "a quote is not closed"
    } else if info.contains("expected ','") {
        "a `[` or `{` above it is not closed"
    } else if after.trim_ascii().is_empty() {
        "something before it is not closed: a quote, a `[` or a `{`"
    } else if in_value {
        "quote the whole value, or write it under `|`"
    } else if info.contains("expected key") {
        "indent it like the lines around it"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// From the parser's character positions to bytes.
struct Offsets(Option<Vec<usize>>);

impl Offsets {
    fn of(text: &str) -> Self {
        Self((!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).chain([text.len()]).collect()))
    }

    fn byte(&self, mark: Marker) -> usize {
        match &self.0 {
            None => mark.index(),
            Some(bytes) => bytes.get(mark.index()).or(bytes.last()).copied().unwrap_or(0),
        }
    }
}

/// A collection that is not closed yet.
struct Frame {
    anchor: usize,
    node: Node,
    /// In a mapping: the key that waits for its value.
    key: Option<NodeId>,
    /// In a mapping: the keys so far.
    seen: HashMap<String, NodeId>,
}

struct Builder<'s> {
    source: &'s Source,
    offsets: Offsets,
    nodes: Vec<Node>,
    root: Option<NodeId>,
    documents: usize,
    /// Nodes and aliases so far.
    count: usize,
    anchors: HashMap<usize, NodeId>,
    open: Vec<Frame>,
    expansion: u64,
    problems: Vec<Problem>,
}

impl<'s> Builder<'s> {
    fn new(source: &'s Source, offsets: Offsets) -> Self {
        Self {
            source,
            offsets,
            nodes: Vec::new(),
            root: None,
            documents: 0,
            count: 0,
            anchors: HashMap::new(),
            open: Vec::new(),
            expansion: 0,
            problems: Vec::new(),
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let bytes = self.offsets.byte(span.start)..self.offsets.byte(span.end);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.document(bytes),
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref(), &bytes)?;
                let plain = matches!(style, ScalarStyle::Plain);
                let weight = NODE_WEIGHT + text.len() as u64;
                let kind = Kind::Scalar { text: text.into_owned(), plain };
                let id = self.add(Node { span: bytes, kind, weight, height: 0 }, anchor);
                self.place(id)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), &bytes)?;
                self.open(Kind::Sequence(Vec::new()), bytes, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), &bytes)?;
                self.open(Kind::Mapping(Vec::new()), bytes, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(bytes.start),
            Event::Alias(anchor) => self.alias(anchor, bytes),
        }
    }

    fn document(&mut self, bytes: Range<usize>) -> Result<(), Problem> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        let problem = self.source.problem(bytes, "a second document starts here");
        Err(problem.hint("a project file is one document: remove the `---`"))
    }

    fn check_tag(&self, tag: Option<&saphyr_parser::Tag>, bytes: &Range<usize>) -> Result<(), Problem> {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema() => {
                let message = format!("the tag `{}` has no meaning here", shown(&tag.to_string()));
                Err(self.source.problem(bytes.clone(), message).hint("remove it"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn open(&mut self, kind: Kind, span: Range<usize>, anchor: usize) -> Result<(), Problem> {
        let node = Node { span, kind, weight: NODE_WEIGHT, height: 1 };
        self.open.push(Frame { anchor, node, key: None, seen: HashMap::new() });
        let at = self.open[self.open.len() - 1].node.span.clone();
        self.check_depth(0, at)
    }

    fn check_depth(&self, more: u32, at: Range<usize>) -> Result<(), Problem> {
        if self.open.len() as u64 + u64::from(more) <= u64::from(MAX_DEPTH) {
            return Ok(());
        }
        let problem =
            self.source.problem(at.start..at.start + 1, format!("nested more than {MAX_DEPTH} deep"));
        Err(problem.hint("a project file needs four levels"))
    }

    fn close(&mut self, end: usize) -> Result<(), Problem> {
        let Some(Frame { anchor, mut node, .. }) = self.open.pop() else { return Ok(()) };
        // Block collections end where the next thing starts; what lies between is not theirs.
        let body = &self.source.text[node.span.start..end.max(node.span.start).min(self.source.text.len())];
        node.span.end = node.span.start + body.trim_ascii_end().len();
        let id = self.add(node, anchor);
        self.place(id)
    }

    fn alias(&mut self, anchor: usize, bytes: Range<usize>) -> Result<(), Problem> {
        let Some(&id) = self.anchors.get(&anchor) else {
            let problem = self.source.problem(bytes, "this alias stands for something it is part of");
            return Err(problem.hint("write the value out"));
        };
        self.expansion = self.expansion.saturating_add(self.nodes[id].weight);
        if self.expansion > MAX_EXPANSION {
            let problem = self.source.problem(bytes, "aliases make the file too large when written out");
            return Err(problem.hint("use fewer aliases of aliases"));
        }
        self.check_depth(self.nodes[id].height, bytes)?;
        self.place(id)
    }

    fn add(&mut self, node: Node, anchor: usize) -> NodeId {
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        if anchor > 0 {
            self.anchors.insert(anchor, id);
        }
        id
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, id: NodeId) -> Result<(), Problem> {
        self.count += 1;
        if self.count > MAX_NODES {
            let message = format!("more than {MAX_NODES} keys and values up to here");
            let problem = self.source.problem(self.nodes[id].span.clone(), message);
            return Err(
                problem.hint("a project file declares at most 64 tasks; move data into files of its own")
            );
        }
        let (weight, height) = (self.nodes[id].weight, self.nodes[id].height);
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(id);
            return Ok(());
        };
        frame.node.weight = frame.node.weight.saturating_add(weight);
        frame.node.height = frame.node.height.max(height + 1);
        match &mut frame.node.kind {
            Kind::Scalar { .. } => Ok(()),
            Kind::Sequence(items) => {
                items.push(id);
                Ok(())
            }
            Kind::Mapping(entries) => match frame.key.take() {
                Some(key) => {
                    entries.push((key, id));
                    Ok(())
                }
                None => self.key(id),
            },
        }
    }

    fn key(&mut self, id: NodeId) -> Result<(), Problem> {
        let node = &self.nodes[id];
        let Kind::Scalar { text, plain } = &node.kind else {
            let problem = self.source.problem(node.span.clone(), "a key must be text");
            return Err(problem.hint("quote it if it starts with `[`, `{`, `?` or `*`"));
        };
        if *plain && text.is_empty() {
            let problem = self.source.problem(node.span.clone(), "a key is missing before the `:`");
            return Err(problem.hint("write `name: value`"));
        }
        let Some(frame) = self.open.last_mut() else { return Ok(()) };
        frame.key = Some(id);
        if let Some(&first) = frame.seen.get(text) {
            if self.problems.len() > MAX_PROBLEMS {
                return Ok(());
            }
            let (line, _) = self.source.position(self.nodes[first].span.start);
            let message = format!("the key `{}` is here twice, first in line {line}", shown(text));
            self.problems.push(self.source.problem(node.span.clone(), message).hint("keep one of them"));
        } else {
            frame.seen.insert(text.clone(), id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<(Tree, Vec<Problem>), Problem> {
        let mut problems = Vec::new();
        read(&Source::new("f", text), &mut problems).map(|tree| (tree, problems))
    }

    fn check(text: &str, path: &[&str], expect: Option<(&str, &str)>) {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        let found = tree(text).unwrap().0.locate(&path).map(|it| (&text[it.key], &text[it.value]));
        assert_eq!(found, expect, "{text:?} {path:?}");
    }

    #[test]
    fn finds_keys_and_values() {
        let text = "é: 1\ntasks:\n  a:\n    cmd: 'x y'\n  b: [p, q]\n";
        check(text, &["tasks", "a", "cmd"], Some(("cmd", "'x y'")));
        check(text, &["tasks", "a"], Some(("a", "cmd: 'x y'")));
        check(text, &["tasks", "b", "1"], Some(("q", "q")));
        check(text, &["tasks", "c"], None);
        check(text, &["é"], Some(("é", "1")));
    }

    #[test]
    fn looks_through_aliases_and_merges() {
        let text = "a: &a {k: 1}\nb: &b {<<: *a}\nc:\n  <<: [*b, {z: 2}]\nd: *a\n";
        check(text, &["c", "k"], Some(("k", "1")));
        check(text, &["c", "z"], Some(("z", "2")));
        check(text, &["d", "k"], Some(("k", "1")));
    }

    #[test]
    fn every_duplicate_is_told() {
        let (tree, problems) = tree("a: 1\na: 2\nb: {c: 1, \"c\": 2}\na: 3\n").unwrap();
        let lines: Vec<u32> = problems.iter().map(|it| it.line).collect();
        assert_eq!(lines, [2, 3, 4]);
        assert!(!tree.is_empty());
    }

    #[test]
    fn limits_hold() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(tree(&deep(32)).is_ok());
        assert!(tree(&deep(33)).is_err());
        assert!(tree(&"[".repeat(200_000)).is_err());
        assert!(tree("a: &a [*a]").is_err());
        let many = |n: usize| format!("[{}]", "1, ".repeat(n));
        assert!(tree(&many(9_999)).is_ok());
        assert!(tree(&many(10_000)).is_err());
        let mut bomb = "a0: &a0 lol\n".to_owned();
        for i in 1..30 {
            let aliases = [format!("*a{}", i - 1), format!("*a{}", i - 1)].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
        }
        assert!(tree(&bomb).is_err());
        let long = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a, ".repeat(1000));
        assert!(tree(&long).unwrap_err().message.contains("too large"));
    }
}
