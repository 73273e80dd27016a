//! `.kaged/project.yaml` to a checked list of tasks, or every problem with its line and column.
