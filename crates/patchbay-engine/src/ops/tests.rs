//! Tests of all operations.
