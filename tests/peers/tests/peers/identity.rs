//! mTLS.
