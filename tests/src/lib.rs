//! Whole-mesh tests and benchmarks.
