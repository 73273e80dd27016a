//! A run's processes: looked at where that may block, and listed in words.

use std::fmt::Display;

use crate::model::InstanceId;

/// Items that a list names; of more it tells the number.
const NAMED: usize = 8;

/// Looks at processes in a thread that may block; `None` when the look panicked, which the log says.
pub(super) async fn look<T: Send + 'static>(
    id: InstanceId,
    look: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let looked = tokio::task::spawn_blocking(look).await;
    looked.inspect_err(|error| tracing::error!(%id, %error, "the look at the run's processes failed")).ok()
}

/// The first of many, and how many more there are.
pub(super) fn listed(items: impl ExactSizeIterator<Item: Display>) -> String {
    let more = items.len().saturating_sub(NAMED);
    let named: Vec<String> = items.take(NAMED).map(|item| item.to_string()).collect();
    if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_tells_how_many_it_leaves_out() {
        assert_eq!(listed([7, 8].iter()), "7, 8");
        assert_eq!(listed(1..9), "1, 2, 3, 4, 5, 6, 7, 8");
        assert_eq!(listed(1..13), "1, 2, 3, 4, 5, 6, 7, 8 and 4 more");
    }
}
