//! The rules. Each takes one source and answers a sentence per violation, opening with the file's path.

use std::collections::BTreeSet;

use quote::ToTokens;
use syn::Item;
use syn::visit::Visit;

use super::source::{Named, Source, is_for_tests, mentions};

/// What one file does against one rule.
pub(super) type Rule = fn(&Source, &Modules) -> Vec<String>;

/// The modules of `src/lib.rs` in their order, each with the section it stands in.
pub(super) struct Modules(Vec<(String, String)>);

impl Modules {
    pub(super) fn parse(lib: &str) -> Self {
        let (mut section, mut modules) = ("", Vec::new());
        for line in lib.lines() {
            if let Some(title) = line.strip_prefix("// ---- ") {
                section = title.split(':').next().unwrap_or(title);
            } else if let Some(name) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
                modules.push((name.to_owned(), section.to_owned()));
            }
        }
        Self(modules)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.names().position(|listed| listed == name)
    }

    fn is_pure(&self, name: &str) -> bool {
        self.0.iter().any(|(listed, section)| listed == name && section == "pure")
    }
}

/// A module imports only modules above it in `src/lib.rs`.
pub(super) fn imports_point_up(source: &Source, modules: &Modules) -> Vec<String> {
    let own = source.module().first().and_then(|name| modules.place(name));
    let Some(own) = own else { return Vec::new() };
    let paths = source.names().into_iter().filter(|named| named.segments[0] == "crate");
    let down = paths.filter(|named| modules.place(&named.segments[1]).is_none_or(|place| place > own));
    let say = |named: Named| {
        format!("{}: {} is not above this module in src/lib.rs", source.path, named.segments.join("::"))
    };
    down.map(say).collect()
}

/// `super::` never leaves the top-level module, so that every crossing between modules reads `crate::`.
pub(super) fn super_stays_inside(source: &Source, _: &Modules) -> Vec<String> {
    let file = source.module().len();
    let climbs = |named: &Named| {
        let path = named.segments.iter().skip_while(|segment| *segment == "self");
        let steps = path.take_while(|segment| *segment == "super").count();
        steps > 0 && steps >= file + named.depth
    };
    let outside = source.names().into_iter().filter(climbs);
    outside
        .map(|named| format!("{}: {} leaves its module; say crate::", source.path, named.segments.join("::")))
        .collect()
}

/// A pure module names nothing that does I/O, and takes `now` instead of asking a clock.
pub(super) fn pure_is_pure(source: &Source, modules: &Modules) -> Vec<String> {
    const OUTSIDE: [&str; 7] = ["tokio", "rusqlite", "axum", "hyper", "mio", "rustix", "getrandom"];
    const STD: [&str; 6] = ["fs", "net", "process", "env", "thread", "os"];
    const CLOCKS: [&str; 3] = ["Instant", "SystemTime", "TimeMs"];
    // The one reader of the wall clock has its home beside its type; calling it is what a pure module may not do.
    let is_clock = source.path == "src/model/time.rs";
    if !source.module().first().is_some_and(|name| modules.is_pure(name)) {
        return Vec::new();
    }
    let is_impure = |path: &[String]| {
        (path[0] == "std" && STD.contains(&path[1].as_str()))
            || (!is_clock && path.windows(2).any(|pair| CLOCKS.contains(&&*pair[0]) && pair[1] == "now"))
    };
    let names = source.names().into_iter().filter(|named| is_impure(&named.segments));
    let mut said: Vec<_> = names.map(|named| named.segments.join("::")).collect();
    for (tokens, _) in source.tokens() {
        said.extend(OUTSIDE.into_iter().filter(|name| mentions(tokens.clone(), name)).map(str::to_owned));
        said.extend(tokens.to_string().contains(". elapsed ()").then(|| ".elapsed()".to_owned()));
    }
    said.iter().map(|name| format!("{}: {name} in a pure module", source.path)).collect()
}

/// Every file says first what it is.
pub(super) fn opens_with_documentation(source: &Source, _: &Modules) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or_default();
    let said = first.strip_prefix("//!").is_some_and(|rest| !rest.trim().is_empty());
    if said || first.starts_with("#![doc = include_str!") {
        return Vec::new();
    }
    vec![format!("{}: does not open with a `//!` sentence", source.path)]
}

/// A file is at most 600 lines before its tests.
pub(super) fn is_short(source: &Source, _: &Modules) -> Vec<String> {
    let lines: Vec<_> = source.text.lines().collect();
    let opens_tests = |from: usize| {
        let after = lines[from..].iter().find(|line| !line.starts_with("#["));
        lines[from] == "#[cfg(test)]" && after.is_some_and(|line| line.starts_with("mod "))
    };
    let length = (0..lines.len()).find(|&line| opens_tests(line)).unwrap_or(lines.len());
    (length > 600).then(|| format!("{}: {length} lines before the tests", source.path)).into_iter().collect()
}

/// A `mod.rs` holds documentation, `mod` lines and imports.
pub(super) fn mod_file_has_no_logic(source: &Source, _: &Modules) -> Vec<String> {
    if !source.path.ends_with("/mod.rs") && source.path != "src/lib.rs" {
        return Vec::new();
    }
    let is_logic = |item: &&Item| {
        if let Item::Mod(module) = item {
            return module.content.is_some() && !is_for_tests(module);
        }
        !matches!(item, Item::Use(_))
    };
    let logic = source.file.items.iter().filter(is_logic);
    let start = |item: &Item| item.to_token_stream().to_string().chars().take(60).collect::<String>();
    logic.map(|item| format!("{}: logic: {}…", source.path, start(item))).collect()
}

/// Types that leave the process live at its boundaries, and only those can be written or read.
pub(super) fn only_boundaries_serialize(source: &Source, _: &Modules) -> Vec<String> {
    const BOUNDARIES: [&str; 6] =
        ["project/raw", "api/wire", "store/row", "shim/wire", "journal/record", "config/file"];
    let module = source.module().into_iter().take(2).collect::<Vec<_>>().join("/");
    if source.is_test || BOUNDARIES.contains(&module.as_str()) {
        return Vec::new();
    }
    let mut seen = Serializable::default();
    seen.visit_file(&source.file);
    seen.0.into_iter().map(|name| format!("{}: {name} outside a boundary module", source.path)).collect()
}

/// Collects `derive`s and `impl`s of serde's two traits.
#[derive(Default)]
struct Serializable(Vec<String>);

const SERDE: [&str; 2] = ["Serialize", "Deserialize"];

impl<'ast> Visit<'ast> for Serializable {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_for_tests(module) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_attribute(&mut self, attr: &'ast syn::Attribute) {
        let derives = attr.path().is_ident("derive") || attr.path().is_ident("cfg_attr");
        let found = SERDE.into_iter().filter(|name| derives && mentions(attr.to_token_stream(), name));
        self.0.extend(found.map(|name| format!("derive({name})")));
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        let name = block.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
        let found = SERDE.into_iter().filter(|serde| name.is_some_and(|name| name.ident == serde));
        self.0.extend(found.map(|name| format!("impl {name}")));
        syn::visit::visit_item_impl(self, block);
    }
}

/// A test runs or does not exist.
pub(super) fn no_ignored_test(source: &Source, _: &Modules) -> Vec<String> {
    struct Ignored(usize);
    impl<'ast> Visit<'ast> for Ignored {
        fn visit_attribute(&mut self, attr: &'ast syn::Attribute) {
            self.0 += usize::from(mentions(attr.to_token_stream(), "ignore"));
        }
    }
    let mut ignored = Ignored(0);
    ignored.visit_file(&source.file);
    vec![format!("{}: #[ignore]", source.path); ignored.0]
}

/// Lines that put work off.
pub(super) fn marks(path: &str, text: &str) -> Vec<String> {
    const MARKS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let open = text.lines().enumerate().filter(|(_, line)| MARKS.iter().any(|mark| line.contains(mark)));
    open.map(|(at, line)| format!("{path}:{}: {}", at + 1, line.trim())).collect()
}

/// Integration tests that exist as files but are never compiled.
pub(super) fn unlisted(files: &BTreeSet<String>, main: &str) -> Vec<String> {
    let listed = |name: &str| main.lines().any(|line| line.trim_end() == format!("mod {name};"));
    let forgotten = files.iter().filter(|name| *name != "main" && !listed(name));
    forgotten.map(|name| format!("tests/it/main.rs does not list `mod {name};`")).collect()
}

/// Fixture folders whose path no test names.
pub(super) fn unused(folders: &BTreeSet<String>, readers: &str) -> Vec<String> {
    let idle = folders.iter().filter(|name| !readers.contains(&format!("fixtures/{name}")));
    idle.map(|name| format!("fixtures/{name}: no test reads it")).collect()
}

/// What the two lint files must say and do not.
pub(super) fn missing_lints(clippy: &str, cargo: &str) -> Vec<String> {
    const CLIPPY: [&str; 7] = [
        "too-many-lines-threshold = 70",
        "std::time::Instant::now",
        "std::time::SystemTime::now",
        "std::process::Command::new",
        "tokio::process::Command::new",
        "tokio::spawn",
        "tokio::sync::mpsc::unbounded_channel",
    ];
    const CARGO: [&str; 7] = [
        "unwrap_used = \"deny\"",
        "todo = \"deny\"",
        "too_many_lines = \"deny\"",
        "wildcard_enum_match_arm = \"deny\"",
        "disallowed_methods = \"deny\"",
        "undocumented_unsafe_blocks = \"deny\"",
        "missing_docs = \"warn\"",
    ];
    let said = |text: &str, entry: &str| {
        let quoted = format!("\"{entry}\"");
        text.lines().any(|line| line == entry || line.contains(&quoted))
    };
    let missing = CLIPPY.into_iter().filter(|entry| !said(clippy, entry));
    missing.chain(CARGO.into_iter().filter(|entry| !said(cargo, entry))).map(str::to_owned).collect()
}
