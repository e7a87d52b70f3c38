//! Functions by name.

use crate::Value;
use std::collections::HashMap;

/// A function that templates may call.
pub type Function = fn(&[Value]) -> Result<Value, String>;

/// Functions beyond the built-in ones.
#[derive(Debug, Clone, Default)]
pub struct Functions(HashMap<&'static str, Function>);

impl Functions {
    /// Makes a set without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a function, instead of one of the same name if there is.
    pub fn add(&mut self, name: &'static str, function: Function) {
        self.0.insert(name, function);
    }

    pub(crate) fn get(&self, name: &str) -> Option<Function> {
        self.0.get(name).copied().or_else(|| crate::builtins::get(name))
    }

    /// `and` and `or` are functions, too, only that they do not always evaluate all arguments.
    pub(crate) fn contains(&self, name: &str) -> bool {
        matches!(name, "and" | "or") || self.get(name).is_some()
    }
}
