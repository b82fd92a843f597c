//! The simulator, tested.

mod scenarios;
