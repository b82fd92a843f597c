//! Tests of tandem-proto against the spec: vectors, and properties of records.

mod records;
mod samples;
mod tables;
mod untrusted;
mod vectors;
