//! Limits, confirmation and retention: facts and `now` in, a decision with its reason out.
