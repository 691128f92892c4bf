//! Simulator and end-to-end test support.
