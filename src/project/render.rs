//! Problems as people read them: message, place, the lines around it, advice.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::{Problem, Source};

/// Lines shown before the one in question.
const CONTEXT_LINES: usize = 1;
/// The most bytes of text shown for one problem; a longer line is cut.
const MAX_SHOWN_BYTES: usize = 400;

/// All problems with their snippets, one after the other, each ending in a newline. `colour` adds terminal colours.
#[must_use]
pub fn render(problems: &[Problem], sources: &[&Source], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    problems.iter().map(|problem| render_one(&renderer, problem, sources) + "\n").collect()
}

fn render_one(renderer: &Renderer, problem: &Problem, sources: &[&Source]) -> String {
    let source = sources.iter().find(|source| source.name == problem.file);
    let window = source.and_then(|source| window(source, problem));
    let title = Level::ERROR.primary_title(problem.message.as_str());
    let hint = problem.hint.as_deref().map(|hint| Level::HELP.message(hint));
    let group = match &window {
        Some(window) => {
            let mark = AnnotationKind::Primary.span(window.mark.clone());
            let snippet = Snippet::source(window.text.as_str()).path(problem.file.as_str());
            title.element(snippet.line_start(window.first_line).fold(false).annotation(mark))
        }
        None => {
            let place = annotate_snippets::Origin::path(problem.file.as_str());
            title.element(place.line(problem.line as usize).char_column(problem.column as usize))
        }
    };
    renderer.render(&[group.elements(hint)])
}

/// A few lines of a file.
struct Window {
    text: String,
    first_line: usize,
    mark: std::ops::Range<usize>,
}

/// The lines to show; `None` when the file is not text there.
fn window(source: &Source, problem: &Problem) -> Option<Window> {
    let text = std::str::from_utf8(&source.text).ok()?;
    let at = floor_char(text, problem.span.start.min(text.len()));
    let mut start = line_start(text, at);
    let mut first_line = problem.line as usize;
    for _ in 0..CONTEXT_LINES {
        if start > 0 && at - line_start(text, start - 1) < MAX_SHOWN_BYTES / 2 {
            start = line_start(text, start - 1);
            first_line -= 1;
        }
    }
    if at - start > MAX_SHOWN_BYTES {
        return None;
    }
    let line_end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    let end = floor_char(text, line_end.min(at + MAX_SHOWN_BYTES));
    // A mark that ends inside a character is stretched over it.
    let mark_end = (problem.span.end..end).find(|&at| text.is_char_boundary(at)).unwrap_or(end).max(at);
    Some(Window { text: text[start..end].to_owned(), first_line, mark: at - start..mark_end - start })
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

fn floor_char(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_line_and_the_advice() {
        let source = Source::new("p.yaml", "tasks:\n  té:\n    x: 1\n");
        let problem = source.problem(9..12, "a bad name").hint("use another");
        let text = render(&[problem], &[&source], false);
        for part in ["error: a bad name", "p.yaml:2:3", "2 |   té:", "^^", "help: use another"] {
            assert!(text.contains(part), "{part:?} not in:\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn colours_only_when_told_and_never_from_the_file() {
        let source = Source::new("p.yaml", "x\x1b[2J\n");
        let problem = source.problem(0..1, "m");
        assert!(!render(std::slice::from_ref(&problem), &[&source], false).contains('\x1b'));
        assert!(!render(&[problem], &[&source], true).contains("\x1b[2J"));
    }

    #[test]
    fn long_lines_and_binary_are_shown_by_position_only() {
        let long = Source::new("p.yaml", format!("{}é", "é".repeat(1000)));
        for (source, span) in [(&long, 1998..2000), (&Source::new("b", b"\xff\n".to_vec()), 0..1)] {
            let text = render(&[source.problem(span, "m")], &[source], false);
            assert!(text.contains(&format!("{}:1:", source.name)) && text.len() < 200, "{text}");
        }
    }
}
