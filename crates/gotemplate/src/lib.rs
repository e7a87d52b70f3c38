//! Go's template language (`text/template`), over values of any shape.
//!
//! A template is parsed once ([`Template::parse`]) and executed over a [`Value`], which keeps what Go's templates can
//! see: the order of a struct's fields, nil slices, methods. Actions, pipelines, variables, nested templates, trimming
//! and the built-in functions are Go's; so are the texts of errors, since users see them. Further functions are added
//! by name ([`Functions`]); [`docker_functions`] has those that Docker adds.
//!
//! ```
//! use gotemplate::{Template, Value, docker_functions};
//! let template = Template::parse("", "{{range .}}{{upper .}} {{end}}", docker_functions()).unwrap();
//! let words = Value::list(["a", "b"].map(Value::from));
//! assert_eq!(template.execute(&words).unwrap(), "A B ");
//! ```
#![expect(clippy::error_impl_error, reason = "one Error per crate")]

mod builtins;
mod compare;
mod docker;
mod exec;
mod functions;
mod lex;
mod parse;
mod print;
#[cfg(test)]
mod tests;
mod tree;
mod value;

pub use docker::{docker_functions, header_functions};
pub use functions::{Function, Functions};
pub use value::{Field, Method, Object, Value};

use std::collections::HashMap;
use tree::Block;

/// Why a template was refused, or stopped; the text is Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: {0}")]
pub struct Error(String);

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// A parsed template and those defined in it.
#[derive(Debug)]
pub struct Template {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) templates: HashMap<String, Block>,
    pub(crate) functions: Functions,
}

impl Template {
    /// Parses `source`; `name` appears in errors.
    ///
    /// # Errors
    /// What Go says of a template that is none.
    pub fn parse(name: &str, source: &str, functions: Functions) -> Result<Self, Error> {
        let templates = parse::parse(name, source, &functions)?;
        let (name, source) = (name.to_owned(), source.to_owned());
        Ok(Self { name, source, templates, functions })
    }

    /// Executes the template over `data`.
    ///
    /// # Errors
    /// What Go says when it stops; what was written until then is lost.
    pub fn execute(&self, data: &Value) -> Result<String, Error> {
        exec::execute(self, data, false)
    }

    /// Executes the template over `data`; a missing key of a map is an error and not `<no value>`
    /// (`missingkey=error`).
    ///
    /// # Errors
    /// What Go says when it stops.
    pub fn execute_strict(&self, data: &Value) -> Result<String, Error> {
        exec::execute(self, data, true)
    }
}
