//! Disks that fill, databases that fail, descriptors and memory that run out.
