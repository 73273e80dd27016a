//! From a long list of choices that fails to a short one that fails too.

/// The runs a shrinking may cost.
const TRIES: usize = 1_500;

/// Drops and dulls choices for as long as `fails` holds.
pub(super) fn shrink(choices: Vec<u32>, fails: impl Fn(&[u32]) -> bool) -> Vec<u32> {
    let mut best = choices;
    let mut tries = TRIES;
    loop {
        let before = (best.len(), best.iter().map(|it| u64::from(*it)).sum::<u64>());
        let mut size = best.len().div_ceil(2).max(1);
        while size > 0 {
            for change in [drop as fn(&mut Vec<u32>, usize, usize), dull, lower] {
                let mut at = 0;
                while at < best.len() {
                    let mut candidate = best.clone();
                    change(&mut candidate, at, size);
                    if tries == 0 {
                        return best;
                    }
                    if candidate != best {
                        tries -= 1;
                        if fails(&candidate) {
                            best = candidate;
                            continue;
                        }
                    }
                    at += size;
                }
            }
            size /= 2;
        }
        while best.last() == Some(&0) {
            best.pop();
        }
        if (best.len(), best.iter().map(|it| u64::from(*it)).sum::<u64>()) == before {
            return best;
        }
    }
}

fn drop(choices: &mut Vec<u32>, at: usize, size: usize) {
    choices.drain(at..(at + size).min(choices.len()));
}

#[expect(clippy::ptr_arg, reason = "one type for every change")]
fn dull(choices: &mut Vec<u32>, at: usize, size: usize) {
    let end = (at + size).min(choices.len());
    choices[at..end].fill(0);
}

#[expect(clippy::ptr_arg, reason = "one type for every change")]
fn lower(choices: &mut Vec<u32>, at: usize, size: usize) {
    if size == 1 {
        choices[at] /= 2;
    }
}
