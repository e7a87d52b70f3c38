//! Executes a parsed template (Go's `text/template/exec.go`).

use crate::tree::{Block, Command, Expression, Kind, Node, Number, Pipe};
use crate::{Error, Template, Value, print};

/// How deep templates may call each other.
const MAX_DEPTH: usize = 1000;

pub(crate) fn execute(template: &Template, data: &Value, strict: bool) -> Result<String, Error> {
    let mut state = State {
        template,
        name: template.name.clone(),
        output: String::new(),
        variables: vec![("$".to_owned(), data.clone())],
        depth: 0,
        strict,
    };
    if let Some(block) = template.templates.get(&template.name) {
        state.walk(data, block)?;
    }
    Ok(state.output)
}

struct State<'a> {
    template: &'a Template,
    /// The template being executed, for errors.
    name: String,
    output: String,
    variables: Vec<(String, Value)>,
    depth: usize,
    /// A missing key is an error.
    strict: bool,
}

/// How a block ended.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl<'a> State<'a> {
    /// Words an error as Go does: where, in what, why.
    fn error(&self, position: usize, node: &dyn std::fmt::Display, why: impl AsRef<str>) -> Error {
        let before = self.template.source.get(..position).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rfind('\n').map_or(position, |end| position - end - 1);
        let mut context = node.to_string();
        if context.chars().count() > 20 {
            context = context.chars().take(20).collect::<String>() + "...";
        }
        let (parsed, name) = (&self.template.name, &self.name);
        Error::new(format!("{parsed}:{line}:{column}: executing {name:?} at <{context}>: {}", why.as_ref()))
    }

    fn walk(&mut self, dot: &Value, block: &'a Block) -> Result<Flow, Error> {
        for node in block {
            let flow = self.node(dot, node)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, dot: &Value, node: &'a Node) -> Result<Flow, Error> {
        match node {
            Node::Text(text) => self.output.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.output.push_str(&print::shown(&value));
                }
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::If { pipe, then, otherwise } | Node::With { pipe, then, otherwise } => {
                let scope = self.variables.len();
                let value = self.pipe(dot, pipe)?;
                let is_with = matches!(node, Node::With { .. });
                let flow = match value.is_true() {
                    true => self.walk(if is_with { &value } else { dot }, then)?,
                    false => self.walk(dot, otherwise)?,
                };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range { pipe, then, otherwise } => return self.range(dot, pipe, then, otherwise),
            Node::Template { position, name, pipe } => {
                self.call_template(dot, *position, name, pipe.as_ref())?;
            }
        }
        Ok(Flow::On)
    }

    fn call_template(
        &mut self,
        dot: &Value,
        position: usize,
        name: &str,
        pipe: Option<&'a Pipe>,
    ) -> Result<(), Error> {
        let shown = format!("{{{{template {name:?}}}}}");
        let Some(block) = self.template.templates.get(name) else {
            return Err(self.error(position, &shown, format!("template {name:?} not defined")));
        };
        if self.depth >= MAX_DEPTH {
            return Err(self.error(
                position,
                &shown,
                format!("exceeded maximum template depth ({MAX_DEPTH})"),
            ));
        }
        let data = match pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Value::Nil,
        };
        let variables = std::mem::replace(&mut self.variables, vec![("$".to_owned(), data.clone())]);
        let caller = std::mem::replace(&mut self.name, name.to_owned());
        self.depth += 1;
        self.walk(&data, block)?;
        self.depth -= 1;
        (self.variables, self.name) = (variables, caller);
        Ok(())
    }

    fn range(
        &mut self,
        dot: &Value,
        pipe: &'a Pipe,
        then: &'a Block,
        otherwise: &'a Block,
    ) -> Result<Flow, Error> {
        let outer = self.variables.len();
        let value = self.pipe(dot, pipe)?;
        let inner = self.variables.len();
        let elements: Vec<(Value, Value)> = match &value {
            Value::List(items) => {
                let items = items.iter().flat_map(|items| items.iter()).enumerate();
                items
                    .map(|(index, item)| (Value::Int(i64::try_from(index).unwrap_or(i64::MAX)), item.clone()))
                    .collect()
            }
            Value::Map(entries) => {
                let entries = entries.iter().flat_map(|entries| entries.iter());
                entries.map(|(key, value)| (Value::from(key.as_str()), value.clone())).collect()
            }
            Value::Int(count) => (0..*count).map(|index| (Value::Int(index), Value::Int(index))).collect(),
            Value::Nil | Value::Missing => Vec::new(),
            other => {
                let shown = print::shown(other);
                return Err(self.error(pipe.position, pipe, format!("range can't iterate over {shown}")));
            }
        };
        let empty = elements.is_empty();
        for (key, element) in elements {
            self.bind_range(pipe, inner, &key, &element);
            let flow = self.walk(&element, then)?;
            self.variables.truncate(inner);
            if flow == Flow::Break {
                break;
            }
        }
        let flow = if empty { self.walk(dot, otherwise)? } else { Flow::On };
        self.variables.truncate(outer);
        Ok(flow)
    }

    /// Sets the variables of `range $index, $element := …` for one round.
    fn bind_range(&mut self, pipe: &Pipe, inner: usize, key: &Value, element: &Value) {
        let values: &[&Value] = if pipe.variables.len() == 2 { &[key, element] } else { &[element] };
        for (name, value) in pipe.variables.iter().zip(values) {
            if pipe.assigns {
                self.assign(name, (*value).clone());
            } else {
                self.variables.insert(inner.min(self.variables.len()), (name.clone(), (*value).clone()));
            }
        }
    }

    fn assign(&mut self, name: &str, value: Value) {
        if let Some((_, slot)) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            *slot = value;
        }
    }

    fn pipe(&mut self, dot: &Value, pipe: &'a Pipe) -> Result<Value, Error> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(dot, command, last.take())?);
        }
        let value = last.unwrap_or_default();
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, value.clone());
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn command(&mut self, dot: &Value, command: &'a Command, last: Option<Value>) -> Result<Value, Error> {
        let Some((first, rest)) = command.args.split_first() else { return Ok(Value::Nil) };
        match &first.kind {
            Kind::Field(names) => return self.fields(dot, dot, first, names, (rest, last)),
            Kind::Variable(names) => {
                let (name, fields) =
                    names.split_first().map_or(("", &[][..]), |(name, fields)| (name.as_str(), fields));
                let value = self.variable(name);
                if fields.is_empty() {
                    self.no_arguments(first, rest, last.as_ref())?;
                    return Ok(value);
                }
                return self.fields(dot, &value, first, fields, (rest, last));
            }
            Kind::Chain(inner, names) => {
                let value = self.expression(dot, inner)?;
                return self.fields(dot, &value, first, names, (rest, last));
            }
            Kind::Function(name) => return self.function(dot, command, name, rest, last),
            Kind::Pipe(pipe) => {
                let value = self.pipe(dot, pipe)?;
                self.no_arguments(first, rest, last.as_ref())?;
                return Ok(value);
            }
            Kind::Nil => return Err(self.error(first.position, first, "nil is not a command")),
            Kind::Dot | Kind::Bool(_) | Kind::Number(..) | Kind::Text(..) => {}
        }
        self.no_arguments(first, rest, last.as_ref())?;
        self.expression(dot, first)
    }

    fn no_arguments(
        &self,
        first: &Expression,
        rest: &[Expression],
        last: Option<&Value>,
    ) -> Result<(), Error> {
        if rest.is_empty() && last.is_none() {
            return Ok(());
        }
        Err(self.error(first.position, first, format!("can't give argument to non-function {first}")))
    }

    fn variable(&self, name: &str) -> Value {
        self.variables
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    }

    fn expression(&mut self, dot: &Value, expression: &'a Expression) -> Result<Value, Error> {
        Ok(match &expression.kind {
            Kind::Dot => dot.clone(),
            Kind::Nil => Value::Nil,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(_, Number::Int(value)) => Value::Int(*value),
            Kind::Number(_, Number::Uint(value)) => Value::Uint(*value),
            Kind::Number(_, Number::Float(value)) => Value::Float(*value),
            Kind::Text(_, value) => Value::String(value.clone()),
            Kind::Pipe(pipe) => self.pipe(dot, pipe)?,
            Kind::Field(names) => self.fields(dot, dot, expression, names, (&[], None))?,
            Kind::Variable(names) => {
                let (name, fields) =
                    names.split_first().map_or(("", &[][..]), |(name, fields)| (name.as_str(), fields));
                let value = self.variable(name);
                self.fields(dot, &value, expression, fields, (&[], None))?
            }
            Kind::Chain(inner, names) => {
                let value = self.expression(dot, inner)?;
                self.fields(dot, &value, expression, names, (&[], None))?
            }
            Kind::Function(name) => {
                let function = self.template.functions.get(name);
                let result = function.map_or(Ok(Value::Nil), |function| function(&[]));
                result.map_err(|why| {
                    self.error(expression.position, expression, format!("error calling {name}: {why}"))
                })?
            }
        })
    }

    /// Follows `.A.B.C` from `value`; arguments go to the last.
    fn fields(
        &mut self,
        dot: &Value,
        value: &Value,
        node: &'a Expression,
        names: &[String],
        (args, last): (&'a [Expression], Option<Value>),
    ) -> Result<Value, Error> {
        let Some((final_name, before)) = names.split_last() else { return Ok(value.clone()) };
        let mut value = value.clone();
        for name in before {
            value = self.field(&value, node, name, None)?;
        }
        let mut given = Vec::new();
        for arg in args {
            given.push(self.expression(dot, arg)?);
        }
        given.extend(last);
        self.field(&value, node, final_name, Some(given).filter(|given| !given.is_empty()))
    }

    fn field(
        &self,
        value: &Value,
        node: &Expression,
        name: &str,
        args: Option<Vec<Value>>,
    ) -> Result<Value, Error> {
        let failed = |why: String| self.error(node.position, node, why);
        match value {
            Value::Object(object) => {
                let method = object.methods.iter().find(|(known, _)| known == name);
                if let Some((_, method)) = method {
                    let result = method(&args.unwrap_or_default());
                    return result.map_err(|why| failed(format!("error calling {name}: {why}")));
                }
                match object.get(name) {
                    Some(_) if args.is_some() => {
                        Err(failed(format!("{name} has arguments but cannot be invoked as function")))
                    }
                    Some(field) => Ok(field.clone()),
                    None => Err(failed(format!("can't evaluate field {name} in type {}", object.type_name))),
                }
            }
            Value::Map(_) if args.is_some() => {
                Err(failed(format!("{name} is not a method but has arguments")))
            }
            Value::Map(entries) => match entries.as_ref().and_then(|entries| entries.get(name)) {
                Some(value) => Ok(value.clone()),
                None if self.strict => Err(failed(format!("map has no entry for key {name:?}"))),
                None => Ok(Value::Missing),
            },
            Value::Nil => Err(failed(format!("nil pointer evaluating interface {{}}.{name}"))),
            Value::Missing => Err(failed(format!("nil data; no entry for key {name:?}"))),
            other => Err(failed(format!("can't evaluate field {name} in type {}", other.type_name()))),
        }
    }

    fn function(
        &mut self,
        dot: &Value,
        command: &'a Command,
        name: &str,
        args: &'a [Expression],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        if matches!(name, "and" | "or") {
            return self.short_circuit(dot, command, name, args, last);
        }
        let mut given = Vec::with_capacity(args.len() + 1);
        for arg in args {
            given.push(self.expression(dot, arg)?);
        }
        given.extend(last);
        let Some(function) = self.template.functions.get(name) else {
            return Err(self.error(command.position, command, format!("{name:?} is not a defined function")));
        };
        function(&given).map_err(|why| {
            let why = match why.strip_prefix("wrong number of args") {
                Some(rest) => format!("wrong number of args for {name}{rest}"),
                None => format!("error calling {name}: {why}"),
            };
            self.error(command.position, command, why)
        })
    }

    /// `and` and `or` evaluate only what decides.
    fn short_circuit(
        &mut self,
        dot: &Value,
        command: &'a Command,
        name: &str,
        args: &'a [Expression],
        last: Option<Value>,
    ) -> Result<Value, Error> {
        let mut value = None;
        for arg in args {
            let next = self.expression(dot, arg)?;
            let decided = next.is_true() == (name == "or");
            value = Some(next);
            if decided {
                return Ok(value.unwrap_or_default());
            }
        }
        last.or(value).ok_or_else(|| {
            self.error(
                command.position,
                command,
                format!("wrong number of args for {name}: want at least 1 got 0"),
            )
        })
    }
}
