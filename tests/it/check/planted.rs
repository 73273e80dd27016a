//! The judgement on evidence that is made up: what is fine is fine, and each change to it is found.
