//! Machines that are lost, and what the words bring back.
