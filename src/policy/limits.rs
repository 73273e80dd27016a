//! How many runs may be starting or running at once.

/// The operator's limits (`[limits]` in `daemon.toml`; `seeds/004`, "Operating limits").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskLimits {
    /// In one project.
    pub per_project: usize,
    /// Of one operator, over all projects.
    pub per_operator: usize,
}

impl Default for TaskLimits {
    fn default() -> Self {
        Self { per_project: 8, per_operator: 32 }
    }
}

/// What is starting or running before a launch; ended runs do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// In the project.
    pub in_project: usize,
    /// Of the operator.
    pub of_operator: usize,
}

/// A launch would be one too many (429).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverLimit {
    /// In its project.
    #[error("{limit} tasks run in this project, which is the limit; stop one first")]
    Project {
        /// The limit.
        limit: usize,
    },
    /// Of its operator.
    #[error("you run {limit} tasks in all projects, which is the limit; stop one first")]
    Operator {
        /// The limit.
        limit: usize,
    },
}

impl OverLimit {
    /// `details.reason` of the answer.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Project { .. } => "task_limit",
            Self::Operator { .. } => "operator_limit",
        }
    }

    /// `details.limit` of the answer.
    #[must_use]
    pub const fn limit(self) -> usize {
        match self {
            Self::Project { limit } | Self::Operator { limit } => limit,
        }
    }
}

impl TaskLimits {
    /// Whether one more run fits.
    ///
    /// # Errors
    /// Which limit stands in the way.
    pub const fn allow(self, load: Load) -> Result<(), OverLimit> {
        if load.in_project >= self.per_project {
            return Err(OverLimit::Project { limit: self.per_project });
        }
        if load.of_operator >= self.per_operator {
            return Err(OverLimit::Operator { limit: self.per_operator });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(in_project: usize, of_operator: usize, expect: Option<(&str, usize)>) {
        let verdict = TaskLimits::default().allow(Load { in_project, of_operator });
        assert_eq!(
            verdict.err().map(|over| (over.word(), over.limit())),
            expect,
            "{in_project} {of_operator}"
        );
    }

    #[test]
    fn the_ninth_in_a_project_and_the_thirty_third_of_an_operator_are_refused() {
        check(0, 0, None);
        check(7, 31, None);
        check(8, 8, Some(("task_limit", 8)));
        check(9, 40, Some(("task_limit", 8)));
        check(0, 32, Some(("operator_limit", 32)));
        check(usize::MAX, usize::MAX, Some(("task_limit", 8)));
    }
}
