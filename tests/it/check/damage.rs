//! Real state directories, damaged by hand: what is wrong with each is found and called what it is.
