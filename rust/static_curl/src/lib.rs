//! Nothing of its own: the crate it names builds libcurl.a.
