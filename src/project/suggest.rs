//! "Did you mean".

/// The known word nearest to `given`, if it is near enough to be a slip of the fingers.
#[must_use]
pub fn closest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A key longer than any known word cannot be near one, and must not cost a large table.
    if given.len() > 64 {
        return None;
    }
    let given = plain(given);
    let words: Vec<(String, &str)> = known.into_iter().map(|word| (plain(word), word)).collect();
    let short = words.iter().filter(|(word, _)| abbreviates(&given, word)).min_by_key(|(word, _)| word.len());
    let slips = || words.iter().filter_map(|(word, known)| slip(&given, word).map(|steps| (steps, *known)));
    let slip = || slips().min().map(|(_, known)| known);
    let longer = || words.iter().find(|(word, _)| word.len() >= 3 && given.starts_with(word.as_str()));
    short.map(|(_, known)| *known).or_else(slip).or_else(|| longer().map(|(_, known)| *known))
}

fn plain(text: &str) -> String {
    text.to_ascii_lowercase().replace(['-', ' '], "_")
}

/// Whether `short` is `word` with letters left out: `cmd` for `command`.
fn abbreviates(short: &str, word: &str) -> bool {
    let mut rest = word.chars();
    short.len() >= 3
        && word.chars().next() == short.chars().next()
        && short.chars().all(|c| rest.any(|it| it == c))
}

/// The steps from one to the other, if they are few for a word of that length.
fn slip(given: &str, word: &str) -> Option<usize> {
    let limit = word.len().max(3) / 3;
    (given.len().abs_diff(word.len()) <= limit).then(|| distance(given, word)).filter(|steps| *steps <= limit)
}

/// Optimal string alignment distance: insertions, deletions, replacements, and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, expect: Option<&str>) {
        let known = ["command", "description", "cwd", "env", "long_running", "history", "history_count"];
        assert_eq!(closest(given, known), expect, "{given}");
    }

    #[test]
    fn finds_slips_and_nothing_else() {
        check("comand", Some("command"));
        check("commnad", Some("command"));
        check("cmd", Some("command"));
        check("cdw", Some("cwd"));
        check("long-running", Some("long_running"));
        check("longRunning", Some("long_running"));
        check("Env", Some("env"));
        check("desc", Some("description"));
        check("enviroment", Some("env"));
        check("depends_on", None);
        check("timeout", None);
        check("run", None);
        check("", None);
        check(&"x".repeat(100_000), None);
    }

    #[test]
    fn a_swap_is_one_step() {
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
