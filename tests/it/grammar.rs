//! The grammar files and the parsers say the same: rule by rule in words, and line by line in what they accept.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kas::control::layout::sum_of;
use kas::control::notification::{Parsed, notification};
use syn::visit::Visit;

use crate::abnf::{Grammar, Random};
use crate::replay::recordings;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn grammar() -> Grammar {
    let files = ["grammar/control.abnf", "grammar/layout.abnf"];
    Grammar::parse(&files.map(|file| fs::read_to_string(root().join(file)).unwrap()).concat())
}

/// The rules on one item: its name in the source, and the text of its ```abnf block.
struct Documented {
    item: String,
    rules: BTreeMap<String, String>,
    first: String,
}

#[derive(Default)]
struct Items(Vec<Documented>);

impl Items {
    fn note(&mut self, ident: &syn::Ident, attrs: &[syn::Attribute]) {
        let text: String = attrs.iter().filter_map(doc_line).map(|line| line + "\n").collect();
        let Some((_, block)) = text.split_once("```abnf\n") else { return };
        let (block, _) = block.split_once("```").unwrap();
        // One space of every doc line belongs to the comment, not to the rule.
        let block: String =
            block.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n").collect();
        let rules = Grammar::texts(&block);
        let first = block.split_whitespace().next().unwrap().to_owned();
        self.0.push(Documented { item: ident.to_string(), rules, first });
    }
}

fn doc_line(attr: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attr.meta else { return None };
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else { return None };
    attr.path().is_ident("doc").then(|| text.value())
}

impl<'ast> Visit<'ast> for Items {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig.ident, &item.attrs);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig.ident, &item.attrs);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.note(&item.ident, &item.attrs);
    }
}

fn documented() -> Vec<Documented> {
    let mut items = Items::default();
    for entry in fs::read_dir(root().join("src/control")).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        items.visit_file(&syn::parse_file(&source).unwrap());
    }
    items.0
}

#[test]
fn every_rule_stands_on_the_item_of_its_name() {
    let grammar = grammar();
    let mut found = BTreeMap::new();
    for Documented { item, rules, first } in documented() {
        let name = item.trim_start_matches("r#").to_lowercase().replace('_', "-");
        assert_eq!(name, first, "the first rule on `{item}` has another name");
        for (rule, text) in rules {
            assert_eq!(Some(&text), grammar.text(&rule), "`{rule}` on `{item}` differs from the grammar");
            assert_eq!(found.insert(rule.clone(), item.clone()), None, "`{rule}` stands twice");
        }
    }
    let missing: Vec<_> =
        grammar.names().filter(|rule| !found.contains_key(*rule) && *rule != "ESC").collect();
    assert_eq!(missing, Vec::<&str>::new(), "rules without a parser");
}

#[test]
fn every_rule_that_is_used_is_defined_and_every_rule_defined_is_reached() {
    let grammar = grammar();
    assert_eq!(grammar.undefined(), Vec::<String>::new());
    let mut reached = grammar.reachable("stream");
    reached.extend(grammar.reachable("argument"));
    let unreached: Vec<_> = grammar.names().filter(|rule| !reached.contains(*rule)).collect();
    assert_eq!(unreached, Vec::<&str>::new());
}

/// Makes the checksums of a generated layout-change right: the grammar cannot.
fn with_checksums(line: &[u8]) -> Vec<u8> {
    let sum = |word: &[u8]| match word.split_at_checked(5) {
        Some((_, tree)) => [format!("{:04x},", sum_of(tree)).as_bytes(), tree].concat(),
        None => word.to_vec(),
    };
    let words = line.split(|&b| b == b' ').enumerate();
    let words = words.map(|(i, word)| if i == 2 || i == 3 { sum(word) } else { word.to_vec() });
    words.collect::<Vec<_>>().join(&b' ')
}

#[test]
fn whatever_the_grammar_makes_is_parsed_as_that_rule() {
    let grammar = grammar();
    let mut random = Random::new(7);
    for rule in grammar.alternatives("notification") {
        for _ in 0..300 {
            let mut line = grammar.generate(&rule, &mut random);
            if rule == "layout-change" {
                line = with_checksums(&line);
            }
            let kind = match notification(&line) {
                Ok(Parsed::Output(output)) if output.age_ms.is_some() => "extended_output",
                Ok(Parsed::Output(_)) => "output",
                Ok(Parsed::Notification(parsed)) => parsed.kind(),
                Err(why) => panic!("{rule}: {why}: {}", line.escape_ascii()),
            };
            assert_eq!(kind, rule.replace('-', "_"));
        }
    }
}

/// Output is read more leniently than tmux writes it, and checksums are beyond the grammar: there, one direction only.
fn agree(grammar: &Grammar, line: &[u8]) {
    let by_grammar = grammar.matches("notification", line);
    let by_parser = notification(line);
    let is_output = matches!(by_parser, Ok(Parsed::Output(_)));
    let is_layout = line.starts_with(b"%layout-change");
    let shown = line.escape_ascii();
    assert!(by_parser.is_err() || by_grammar || is_output, "only the parser accepts {shown}");
    assert!(!by_grammar || by_parser.is_ok() || is_layout, "only the grammar accepts {shown}");
}

#[test]
fn grammar_and_parser_accept_the_same_lines() {
    let grammar = grammar();
    let mut random = Random::new(11);
    let mut seen = 0;
    for recording in recordings() {
        let stream = recording.stream();
        let short = stream.split(|&b| b == b'\n').filter(|line| line.len() < 300 && line.starts_with(b"%"));
        for line in short.take(60) {
            agree(&grammar, line);
            for _ in 0..4 {
                agree(&grammar, &random.damage(line));
            }
            seen += 1;
        }
    }
    assert!(seen > 1000, "only {seen} lines");
}
