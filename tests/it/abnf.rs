//! A small ABNF (RFC 5234) interpreter: reads the grammar files, matches octets against a rule, and makes octets that match.

use std::collections::{BTreeMap, BTreeSet};

/// What a rule is made of.
#[derive(Debug, Clone)]
enum Node {
    Choice(Vec<Node>),
    Sequence(Vec<Node>),
    Repeat(usize, usize, Box<Node>),
    Range(u8, u8),
    Text(Vec<u8>),
    Rule(String),
}

/// Rules by name.
pub(crate) struct Grammar {
    rules: BTreeMap<String, (String, Node)>,
}

/// How deep generated cells may nest, and how often a `*` repeats.
const FUEL: usize = 24;

impl Grammar {
    /// Reads a grammar with comments.
    pub(crate) fn parse(text: &str) -> Self {
        let texts = Self::texts(text);
        let rules = texts.into_iter().map(|(name, text)| (name, (text.clone(), Reader::new(&text).choice())));
        let mut rules: BTreeMap<_, _> = rules.collect();
        for (name, text) in [
            ("ALPHA", "%x41-5A / %x61-7A"),
            ("DIGIT", "%x30-39"),
            ("SP", "%x20"),
            ("CR", "%x0D"),
            ("LF", "%x0A"),
            ("DQUOTE", "%x22"),
        ] {
            rules.insert(name.to_owned(), (String::new(), Reader::new(text).choice()));
        }
        Self { rules }
    }

    /// The right-hand sides by name, one space between words, without comments.
    pub(crate) fn texts(text: &str) -> BTreeMap<String, String> {
        let mut rules: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        for line in text.lines() {
            let line = without_comment(line);
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            if line.starts_with(char::is_whitespace) {
                let more = words(line);
                if !more.is_empty() {
                    let rule = rules.get_mut(&last).unwrap();
                    *rule = format!("{rule} {more}");
                }
            } else if let Some((name, right)) = line.split_once('=') {
                last = name.trim().to_owned();
                assert_eq!(rules.insert(last.clone(), words(right)), None, "{last} is defined twice");
            } else {
                assert_eq!(line.trim(), "", "no rule");
            }
        }
        rules
    }

    /// The right-hand side of a rule of the files.
    pub(crate) fn text(&self, rule: &str) -> Option<&String> {
        self.rules.get(rule).map(|(text, _)| text)
    }

    /// Every rule of the files.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter(|(_, (text, _))| !text.is_empty()).map(|(name, _)| name.as_str())
    }

    /// The rules that `rule` is a choice of.
    pub(crate) fn alternatives(&self, rule: &str) -> Vec<String> {
        used(&self.rules[rule].1)
    }

    /// Names that no rule has.
    pub(crate) fn undefined(&self) -> Vec<String> {
        let all = self.rules.values().flat_map(|(_, node)| used(node));
        all.filter(|name| !self.rules.contains_key(name)).collect()
    }

    /// All rules that `start` needs, itself included.
    pub(crate) fn reachable(&self, start: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open = vec![start.to_owned()];
        while let Some(rule) = open.pop() {
            if seen.insert(rule.clone()) {
                open.extend(used(&self.rules[&rule].1));
            }
        }
        seen
    }

    /// Whether the whole of `input` matches.
    pub(crate) fn matches(&self, rule: &str, input: &[u8]) -> bool {
        self.ends(&self.rules[rule].1, input, &BTreeSet::from([0])).contains(&input.len())
    }

    /// Where a match of `node` can end that begins at one of `starts`.
    fn ends(&self, node: &Node, input: &[u8], starts: &BTreeSet<usize>) -> BTreeSet<usize> {
        if starts.is_empty() {
            return BTreeSet::new();
        }
        match node {
            Node::Rule(rule) => self.ends(&self.rules[rule].1, input, starts),
            Node::Choice(nodes) => nodes.iter().flat_map(|node| self.ends(node, input, starts)).collect(),
            Node::Sequence(nodes) => {
                nodes.iter().fold(starts.clone(), |starts, node| self.ends(node, input, &starts))
            }
            Node::Text(text) => {
                let fits = |&&at: &&usize| input[at..].starts_with(text);
                starts.iter().filter(fits).map(|at| at + text.len()).collect()
            }
            Node::Range(low, high) => {
                let fits = |&&at: &&usize| input.get(at).is_some_and(|b| (low..=high).contains(&b));
                starts.iter().filter(fits).map(|at| at + 1).collect()
            }
            Node::Repeat(least, most, node) => self.repeated((*least, *most), node, input, starts),
        }
    }

    fn repeated(
        &self,
        (least, most): (usize, usize),
        node: &Node,
        input: &[u8],
        starts: &BTreeSet<usize>,
    ) -> BTreeSet<usize> {
        let mut now = starts.clone();
        let mut all = if least == 0 { now.clone() } else { BTreeSet::new() };
        let mut seen = all.clone();
        for round in 1..=most {
            now = self.ends(node, input, &now);
            if round >= least {
                now.retain(|at| seen.insert(*at));
                all.extend(&now);
            }
            if now.is_empty() {
                break;
            }
        }
        all
    }

    /// Octets that match.
    pub(crate) fn generate(&self, rule: &str, random: &mut Random) -> Vec<u8> {
        let mut out = Vec::new();
        self.make(&self.rules[rule].1, random, FUEL, &mut out);
        out
    }

    fn make(&self, node: &Node, random: &mut Random, fuel: usize, out: &mut Vec<u8>) {
        match node {
            Node::Rule(rule) => self.make(&self.rules[rule].1, random, fuel.saturating_sub(1), out),
            // The last alternative is the smallest one where rules recurse.
            Node::Choice(nodes) if fuel == 0 => self.make(nodes.last().unwrap(), random, 0, out),
            Node::Choice(nodes) => self.make(&nodes[random.below(nodes.len())], random, fuel, out),
            Node::Sequence(nodes) => nodes.iter().for_each(|node| self.make(node, random, fuel, out)),
            Node::Text(text) => out.extend(text),
            Node::Range(low, high) => out.push(low + random.below(usize::from(high - low) + 1) as u8),
            Node::Repeat(least, most, node) => {
                // Nine digits fit every number.
                let most = (*most).min(9).min(*least + fuel);
                for _ in 0..least + random.below(most - least + 1) {
                    self.make(node, random, fuel / 2, out);
                }
            }
        }
    }
}

fn used(node: &Node) -> Vec<String> {
    match node {
        Node::Rule(rule) => vec![rule.clone()],
        Node::Choice(nodes) | Node::Sequence(nodes) => nodes.iter().flat_map(used).collect(),
        Node::Repeat(_, _, node) => used(node),
        Node::Range(..) | Node::Text(_) => vec![],
    }
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ';' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

/// Reads one right-hand side.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    fn skip(&mut self, prefix: &str) -> bool {
        let rest = self.rest.trim_start();
        let rest = rest.strip_prefix(prefix);
        rest.map(|rest| self.rest = rest).is_some()
    }

    fn take(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let (taken, rest) = self.rest.split_at(self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn choice(&mut self) -> Node {
        let mut nodes = vec![self.sequence()];
        while self.skip("/") {
            nodes.push(self.sequence());
        }
        if nodes.len() == 1 { nodes.remove(0) } else { Node::Choice(nodes) }
    }

    fn sequence(&mut self) -> Node {
        let mut nodes = Vec::new();
        while !self.rest.trim_start().is_empty() && !self.rest.trim_start().starts_with(['/', ')', ']']) {
            nodes.push(self.repetition());
        }
        Node::Sequence(nodes)
    }

    fn repetition(&mut self) -> Node {
        self.rest = self.rest.trim_start();
        let least = self.take(|c| c.is_ascii_digit());
        let is_open = self.skip("*");
        if least.is_empty() && !is_open {
            return self.element();
        }
        let least = least.parse().unwrap_or(0);
        Node::Repeat(least, if is_open { usize::MAX } else { least }, Box::new(self.element()))
    }

    fn element(&mut self) -> Node {
        if self.skip("(") {
            let inner = self.choice();
            assert!(self.skip(")"), "no ) before {:?}", self.rest);
            inner
        } else if self.skip("[") {
            let inner = self.choice();
            assert!(self.skip("]"), "no ] before {:?}", self.rest);
            Node::Repeat(0, 1, Box::new(inner))
        } else if self.skip("\"") {
            let text = self.take(|c| c != '"').as_bytes().to_vec();
            assert!(self.skip("\""));
            Node::Text(text)
        } else if self.skip("%x") {
            let low = u8::from_str_radix(self.take(|c| c.is_ascii_hexdigit()), 16).unwrap();
            let is_range = self.rest.starts_with('-') && self.skip("-");
            let high = if is_range {
                u8::from_str_radix(self.take(|c| c.is_ascii_hexdigit()), 16).unwrap()
            } else {
                low
            };
            Node::Range(low, high)
        } else {
            let name = self.take(|c| c.is_ascii_alphanumeric() || c == '-');
            assert!(!name.is_empty(), "no element at {:?}", self.rest);
            Node::Rule(name.to_owned())
        }
    }
}

/// Small numbers that are the same in every run (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }

    /// `bytes` with one of them changed, added, doubled or removed, or cut short.
    pub(crate) fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        let at = self.below(bytes.len());
        let odd = b"% :@$-0x,{}[]<>\\\r\x00\xff1"[self.below(19)];
        match self.below(5) {
            0 if at < damaged.len() => damaged[at] = odd,
            1 => damaged.insert(at, odd),
            2 if at < damaged.len() => damaged.insert(at, damaged[at]),
            3 if at < damaged.len() => drop(damaged.remove(at)),
            _ => damaged.truncate(at),
        }
        damaged
    }
}
