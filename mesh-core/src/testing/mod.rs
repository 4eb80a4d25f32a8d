//! Fakes for tests (feature `testing`).
