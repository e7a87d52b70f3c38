//! What templates see: Go's kinds of values, as far as a template can tell them apart.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A method: takes the template's arguments.
pub type Method = Arc<dyn Fn(&[Value]) -> Result<Value, String> + Send + Sync>;

/// A value.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// An untyped nil, or a nil pointer.
    #[default]
    Nil,
    /// What a missing key of a map gives.
    Missing,
    /// A truth value.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    String(String),
    /// A slice; `None` is the nil slice.
    List(Option<Arc<Vec<Self>>>),
    /// A map with text keys; `None` is the nil map.
    Map(Option<Arc<BTreeMap<String, Self>>>),
    /// A struct, or a pointer to one.
    Object(Arc<Object>),
    /// A function, for `call`.
    Function(Callable),
}

/// A function value.
#[derive(Clone)]
pub struct Callable(pub Method);

impl fmt::Debug for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callable")
    }
}

/// A struct with its fields in order, and its methods.
#[derive(Clone, Default)]
pub struct Object {
    /// The type, as errors name it (`*formatter.ContainerContext`).
    pub type_name: String,
    /// The fields.
    pub fields: Vec<Field>,
    /// The methods; those without parameters may be fields as well.
    pub methods: Vec<(String, Method)>,
    /// Whether the type makes its own JSON, in which Go then escapes `<`, `>` and `&`.
    pub marshals_itself: bool,
}

/// One field of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    /// The name in Go.
    pub name: String,
    /// The name in JSON; `None` keeps the field out of JSON.
    pub json: Option<String>,
    /// The value.
    pub value: Value,
    /// Left out of JSON although templates see it (`omitempty` on a zero value).
    pub omitted: bool,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("type_name", &self.type_name)
            .field("fields", &self.fields)
            .finish_non_exhaustive()
    }
}

impl Object {
    /// Makes a struct without fields.
    pub fn new(type_name: impl Into<String>) -> Self {
        Self { type_name: type_name.into(), ..Self::default() }
    }

    /// Adds a field whose name in JSON is the same.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        let name = name.into();
        self.fields.push(Field { json: Some(name.clone()), name, value: value.into(), omitted: false });
    }

    /// Adds a method.
    pub fn method(
        &mut self,
        name: impl Into<String>,
        method: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) {
        self.methods.push((name.into(), Arc::new(method)));
    }

    /// Returns the field of this name in Go.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|field| field.name == name).map(|field| &field.value)
    }
}

impl Value {
    /// Makes a slice.
    pub fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(Some(Arc::new(items.into_iter().collect())))
    }

    /// Makes a map.
    pub fn map(entries: impl IntoIterator<Item = (String, Self)>) -> Self {
        Self::Map(Some(Arc::new(entries.into_iter().collect())))
    }

    /// Says whether `if` takes the value for true: neither zero nor empty. A struct always is.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil | Self::Missing => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Uint(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::String(value) => !value.is_empty(),
            Self::List(items) => items.as_ref().is_some_and(|items| !items.is_empty()),
            Self::Map(entries) => entries.as_ref().is_some_and(|entries| !entries.is_empty()),
            Self::Object(_) | Self::Function(_) => true,
        }
    }

    /// Returns the type's name in Go, as errors show it.
    pub fn type_name(&self) -> String {
        match self {
            Self::Nil | Self::Missing => "<nil>".to_owned(),
            Self::Bool(_) => "bool".to_owned(),
            Self::Int(_) => "int".to_owned(),
            Self::Uint(_) => "uint".to_owned(),
            Self::Float(_) => "float64".to_owned(),
            Self::String(_) => "string".to_owned(),
            Self::List(_) => "[]interface {}".to_owned(),
            Self::Map(_) => "map[string]interface {}".to_owned(),
            Self::Object(object) => object.type_name.clone(),
            Self::Function(_) => "func".to_owned(),
        }
    }

    /// Returns JSON as Go's encoder writes it without HTML escapes: structs in order, maps sorted.
    pub fn to_json(&self) -> String {
        let json = self.json_value().to_string();
        match self {
            Self::Object(object) if object.marshals_itself => {
                json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
            }
            _ => json,
        }
    }

    fn json_value(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Nil | Self::Missing | Self::Function(_) | Self::List(None) | Self::Map(None) => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => Json::from(*value),
            Self::Uint(value) => Json::from(*value),
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => {
                #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
                let whole = *value as i64;
                Json::from(whole)
            }
            Self::Float(value) => Json::from(*value),
            Self::String(value) => Json::String(value.clone()),
            Self::List(Some(items)) => Json::Array(items.iter().map(Self::json_value).collect()),
            Self::Map(Some(entries)) => {
                Json::Object(entries.iter().map(|(key, value)| (key.clone(), value.json_value())).collect())
            }
            Self::Object(object) => {
                let shown = object.fields.iter().filter(|field| !field.omitted);
                let entries = shown.filter_map(|field| Some((field.json.clone()?, field.value.json_value())));
                Json::Object(entries.collect())
            }
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Uint(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

/// JSON as Go decodes it into `interface{}`: objects are maps, numbers floating-point unless whole.
impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Self::Int(value),
                (None, Some(value)) => Self::Uint(value),
                (None, None) => Self::Float(number.as_f64().unwrap_or(0.0)),
            },
            Json::String(value) => Self::String(value.clone()),
            Json::Array(items) => Self::list(items.iter().map(Self::from)),
            Json::Object(entries) => {
                Self::map(entries.iter().map(|(key, value)| (key.clone(), Self::from(value))))
            }
        }
    }
}
