//! Examples of a proxyless mesh: see the files beside `src`.
