//! From sources to a project, or to everything that is wrong with it.

use std::ops::Range;

use serde_json::{Map, Value};

use super::tree::{self, Place, Tree};
use super::{Problem, Project, Source, explain, raw, resolve, value};

/// The most problems told at once; one more says that there are others.
pub const MAX_PROBLEMS: usize = 100;

/// What came of a project file: a project exactly when there are no problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The project, if nothing is wrong.
    pub project: Option<Project>,
    /// Everything that is wrong: the main file's first, each file's in the order of its lines.
    pub problems: Vec<Problem>,
}

/// Reads `.kaged/project.yaml` with `project.local.yaml` merged over it.
#[must_use]
pub fn parse(main: &Source, local: Option<&Source>) -> Parsed {
    let mut problems = Vec::new();
    let project = read_all(main, local, &mut problems);
    let order = |problem: &Problem| (problem.file != main.name, problem.span.start);
    problems.sort_by_key(order);
    // One value can break two keywords of the schema that are one rule to people.
    problems.dedup_by(|a, b| (&a.file, &a.span, &a.message) == (&b.file, &b.span, &b.message));
    limit(&mut problems);
    Parsed { project: project.filter(|_| problems.is_empty()), problems }
}

fn limit(problems: &mut Vec<Problem>) {
    if problems.len() > MAX_PROBLEMS {
        problems.truncate(MAX_PROBLEMS + 1);
        problems[MAX_PROBLEMS].message = "more problems from here on".to_owned();
        problems[MAX_PROBLEMS].hint = None;
    }
}

fn read_all(main: &Source, local: Option<&Source>, problems: &mut Vec<Problem>) -> Option<Project> {
    let main = Document::read(main, problems);
    let local = local.map(|local| Document::read(local, problems));
    let main = main?;
    if main.tree.is_empty() {
        problems.push(main.source.problem(0..0, "the file is empty").hint("write at least `tasks: {}`"));
        return None;
    }
    // A local file that cannot be read hides what the two together would be; its own problem is told.
    let local = local.map_or(Some(None), |local| local.map(Some))?;
    let mut merged = main.value.clone();
    if let Some(local) = &local {
        value::lay_over(&mut merged, local.value.clone());
    }
    let documents = Documents { main, local };
    explain::validate(&merged, &documents, problems);
    if problems.is_empty() { typed(merged, &documents, problems) } else { None }
}

fn typed(merged: Value, documents: &Documents<'_>, problems: &mut Vec<Problem>) -> Option<Project> {
    let raw: Result<raw::Project, _> = serde_json::from_value(merged);
    let project =
        raw.map_err(|e| e.to_string()).and_then(|raw| resolve::resolve(raw).map_err(|e| e.to_string()));
    match project {
        Ok(mut project) => {
            project.tasks.sort_by_key(|task| documents.order(&["tasks".to_owned(), task.name.to_string()]));
            Some(project)
        }
        Err(message) => {
            problems.push(documents.main.source.problem(0..0, message));
            None
        }
    }
}

/// One file, read both ways.
pub(super) struct Document<'s> {
    pub(super) source: &'s Source,
    tree: Tree,
    value: Value,
}

impl<'s> Document<'s> {
    fn read(source: &'s Source, problems: &mut Vec<Problem>) -> Option<Self> {
        let before = problems.len();
        let read = tree::read(source, problems).and_then(|tree| {
            let empty = tree.is_empty();
            let value = if empty { Value::Object(Map::new()) } else { value::read(source)? };
            Ok((tree, value))
        });
        match read {
            Ok((tree, mut value)) => {
                let mut bad = Vec::new();
                value::apply_merge_keys(&mut value, &mut Vec::new(), &mut bad);
                for path in bad {
                    let at = tree.locate(&path).map_or(0..0, |place| place.value);
                    let problem = source.problem(at, "`<<` takes a mapping").path(&path);
                    problems.push(problem.hint("name one by its alias: `<<: *name`"));
                }
                Some(Self { source, tree, value })
            }
            Err(problem) => {
                // What made reading stop matters more than what was found on the way there.
                problems.truncate(before);
                problems.push(problem);
                None
            }
        }
    }
}

/// The main file and the local one over it.
pub(super) struct Documents<'s> {
    main: Document<'s>,
    local: Option<Document<'s>>,
}

impl Documents<'_> {
    /// Where a path is written: in the local file if it is there, else in the main one, else the nearest parent.
    pub(super) fn locate(&self, path: &[String]) -> (&Source, Place) {
        let files = || self.local.iter().chain([&self.main]);
        let found = (0..=path.len()).rev().find_map(|length| {
            files().find_map(|file| file.tree.locate(&path[..length]).map(|place| (file.source, place)))
        });
        found.unwrap_or((self.main.source, Place { key: 0..0, value: 0..0 }))
    }

    /// A problem at the key of `path`, or at its value.
    pub(super) fn problem(&self, path: &[String], part: Part, message: String) -> Problem {
        let (source, place) = self.locate(path);
        let span = match part {
            Part::Key => place.key,
            // An empty value has no place of its own worth pointing at.
            Part::Value if place.value.is_empty() => place.key,
            Part::Value => place.value,
        };
        source.problem(first_line(source, span), message).path(path)
    }

    /// The text of the value at `path` as it is written.
    pub(super) fn written(&self, path: &[String]) -> String {
        let (source, place) = self.locate(path);
        String::from_utf8_lossy(&source.text[place.value]).into_owned()
    }

    fn order(&self, path: &[String]) -> (bool, usize) {
        let main = self.main.tree.locate(path);
        let local = || self.local.as_ref().and_then(|local| local.tree.locate(path));
        main.map(|place| (false, place.key.start))
            .or_else(|| local().map(|place| (true, place.key.start)))
            .unwrap_or((true, 0))
    }
}

/// Which half of `key: value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

/// The part of a span up to the end of its first line.
fn first_line(source: &Source, span: Range<usize>) -> Range<usize> {
    let line = memchr::memchr(b'\n', &source.text[span.clone()]).unwrap_or(span.len());
    span.start..span.start + line
}
