//! What is found after a start, at any size, and how soon it lives again.
