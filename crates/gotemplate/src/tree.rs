//! The parsed form of a template, and its text in errors.

use std::fmt;

/// A list of nodes.
pub(crate) type Block = Vec<Node>;

/// What a template is made of.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Text(String),
    Action(Pipe),
    If { pipe: Pipe, then: Block, otherwise: Block },
    With { pipe: Pipe, then: Block, otherwise: Block },
    Range { pipe: Pipe, then: Block, otherwise: Block },
    Template { position: usize, name: String, pipe: Option<Pipe> },
    Break,
    Continue,
}

/// `$x := a | b | c`
#[derive(Debug, Clone)]
pub(crate) struct Pipe {
    pub(crate) position: usize,
    /// With `$`.
    pub(crate) variables: Vec<String>,
    /// `=` instead of `:=`.
    pub(crate) assigns: bool,
    pub(crate) commands: Vec<Command>,
}

/// `f a b`
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) position: usize,
    pub(crate) args: Vec<Expression>,
}

/// One operand.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    pub(crate) position: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Dot,
    Nil,
    Bool(bool),
    /// As written, and what it is.
    Number(String, Number),
    /// As written, and what it says.
    Text(String, String),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`, the first with `$`.
    Variable(Vec<String>),
    Function(String),
    Pipe(Box<Pipe>),
    /// `(…).A.B`
    Chain(Box<Expression>, Vec<String>),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    Int(i64),
    Uint(u64),
    Float(f64),
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            f.write_str(&self.variables.join(", "))?;
            f.write_str(if self.assigns { " = " } else { " := " })?;
        }
        for (index, command) in self.commands.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{command}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, arg) in self.args.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{arg}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Dot => f.write_str("."),
            Kind::Nil => f.write_str("nil"),
            Kind::Bool(value) => write!(f, "{value}"),
            Kind::Number(text, _) | Kind::Text(text, _) | Kind::Function(text) => f.write_str(text),
            Kind::Field(names) => names.iter().try_for_each(|name| write!(f, ".{name}")),
            Kind::Variable(names) => f.write_str(&names.join(".")),
            Kind::Pipe(pipe) => write!(f, "({pipe})"),
            Kind::Chain(inner, names) => {
                write!(f, "{inner}")?;
                names.iter().try_for_each(|name| write!(f, ".{name}"))
            }
        }
    }
}
