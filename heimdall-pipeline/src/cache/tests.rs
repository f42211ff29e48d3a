//! Tests of the cache: what is kept, what is found, and what is not trusted.
