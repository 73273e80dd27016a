//! The orchestrator: inputs, a pure step, effects, and the loop that performs them.
