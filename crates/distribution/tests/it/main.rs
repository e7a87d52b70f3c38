//! The client against registries that behave, and ones that do not.

#[cfg(test)]
mod pull;
#[cfg(test)]
#[expect(dead_code, reason = "the engine's tests use the rest")]
mod registry;
