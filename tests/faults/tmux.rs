//! tmux dies, hangs, lies, or is steered by its operator.
