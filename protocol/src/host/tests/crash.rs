//! Crashes at every write.
