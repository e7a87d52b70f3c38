//! The client against registries that behave, and ones that do not.
#![cfg(test)]

mod debian;
mod pull;
mod push;
#[expect(dead_code, reason = "the engine's tests use the rest")]
mod registry;
