//! How values look: Go's `fmt`, as far as templates can reach it.

use crate::Value;

/// Returns what an action prints: Go's `%v`, and `<no value>` for what is missing.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Missing => "<no value>".to_owned(),
        other => plain(other),
    }
}

/// Formats as `%v`.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Nil | Value::Missing => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Float(value) => float(*value),
        Value::String(value) => value.clone(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().flat_map(|items| items.iter()).map(plain).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Map(entries) => {
            let entries = entries.iter().flat_map(|entries| entries.iter());
            let entries: Vec<String> =
                entries.map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
        Value::Object(object) => {
            let fields: Vec<String> = object.fields.iter().map(|field| plain(&field.value)).collect();
            format!("{{{}}}", fields.join(" "))
        }
        Value::Function(_) => "func".to_owned(),
    }
}

/// Formats as `%v` of a `float64`: the shortest exact digits, an exponent below 1e-4 and from 1e21.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        exponent(&format!("{value:e}"))
    } else {
        format!("{value}")
    }
}

/// Turns Rust's `1e5` into Go's `1e+05`.
fn exponent(text: &str) -> String {
    let (mantissa, power) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{mantissa}e{sign}{power:0>2}")
}

/// Joins as `fmt.Sprint`: a space between two operands neither of which is a text.
pub(crate) fn sprint(values: &[Value]) -> String {
    let mut text = String::new();
    let mut previous_is_text = true;
    for (index, value) in values.iter().enumerate() {
        let is_text = matches!(value, Value::String(_));
        if index > 0 && !is_text && !previous_is_text {
            text.push(' ');
        }
        text.push_str(&plain(value));
        previous_is_text = is_text;
    }
    text
}

/// Joins as `fmt.Sprintln`: a space between all, a line end after the last.
pub(crate) fn sprintln(values: &[Value]) -> String {
    values.iter().map(plain).collect::<Vec<_>>().join(" ") + "\n"
}

/// What stands between `%` and the verb.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one of fmt's flags")]
struct Spec {
    left: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats as `fmt.Sprintf`.
pub(crate) fn sprintf(format: &str, values: &[Value]) -> String {
    let mut text = String::new();
    let mut letters = format.chars().peekable();
    let mut values_left = values.iter();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = letters.next_if(|letter| "-+# 0".contains(*letter)) {
            match flag {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => spec.zero = true,
            }
        }
        spec.width = number(&mut letters, &mut values_left);
        if letters.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut letters, &mut values_left).unwrap_or(0));
        }
        match letters.next() {
            None => text.push_str("%!(NOVERB)"),
            Some('%') => text.push('%'),
            Some(verb) => match values_left.next() {
                None => text.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => text.push_str(&spec.pad(&spec.format(verb, value), verb)),
            },
        }
    }
    let extra: Vec<String> =
        values_left.map(|value| format!("{}={}", value.type_name(), plain(value))).collect();
    if !extra.is_empty() {
        text.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    text
}

fn number<'a>(
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    values: &mut impl Iterator<Item = &'a Value>,
) -> Option<usize> {
    if letters.next_if_eq(&'*').is_some() {
        return values.next().and_then(|value| plain(value).parse().ok());
    }
    let mut digits = String::new();
    while let Some(digit) = letters.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    digits.parse().ok()
}

impl Spec {
    fn format(&self, verb: char, value: &Value) -> String {
        let signed = |text: String| match (self.plus, self.space, text.starts_with('-')) {
            (true, _, false) => format!("+{text}"),
            (false, true, false) => format!(" {text}"),
            _ => text,
        };
        match (verb, value) {
            ('T', value) => value.type_name(),
            ('v', Value::String(text)) if self.sharp => format!("{text:?}"),
            ('v', Value::Int(_) | Value::Float(_)) => signed(plain(value)),
            ('s', Value::String(text)) => self.cut(text),
            ('s', Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_)) => bad(verb, value),
            ('s', Value::Nil | Value::Missing) => "%!s(<nil>)".to_owned(),
            ('v' | 's', value) => plain(value),
            ('q', Value::String(text)) => format!("{text:?}"),
            ('t', Value::Bool(value)) => value.to_string(),
            ('d', Value::Int(value)) => signed(value.to_string()),
            ('d', Value::Uint(value)) => signed(value.to_string()),
            ('x', Value::Int(value)) => format!("{}{value:x}", if self.sharp { "0x" } else { "" }),
            ('X', Value::Int(value)) => format!("{}{value:X}", if self.sharp { "0X" } else { "" }),
            ('o', Value::Int(value)) => format!("{value:o}"),
            ('b', Value::Int(value)) => format!("{value:b}"),
            ('c', Value::Int(value)) => {
                u32::try_from(*value).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string()
            }
            ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('f' | 'F', Value::Float(value)) => signed(format!("{value:.*}", self.precision.unwrap_or(6))),
            ('e', Value::Float(value)) => {
                signed(exponent(&format!("{value:.*e}", self.precision.unwrap_or(6))))
            }
            ('g', Value::Float(value)) => signed(float(*value)),
            ('d' | 'x' | 'q' | 't' | 'f', Value::List(Some(items))) => {
                let items: Vec<String> = items.iter().map(|item| self.format(verb, item)).collect();
                format!("[{}]", items.join(" "))
            }
            (verb, value) => bad(verb, value),
        }
    }

    fn cut(&self, text: &str) -> String {
        self.precision.map_or_else(|| text.to_owned(), |count| text.chars().take(count).collect())
    }

    fn pad(&self, text: &str, verb: char) -> String {
        let length = text.chars().count();
        let Some(missing) =
            self.width.and_then(|width| width.checked_sub(length)).filter(|missing| *missing > 0)
        else {
            return text.to_owned();
        };
        if self.left {
            return format!("{text}{}", " ".repeat(missing));
        }
        if self.zero && !matches!(verb, 's' | 'q' | 'v') {
            let (sign, digits) =
                text.split_at_checked(usize::from(text.starts_with(['-', '+']))).unwrap_or(("", text));
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        format!("{}{text}", " ".repeat(missing))
    }
}

fn bad(verb: char, value: &Value) -> String {
    match value {
        Value::Nil | Value::Missing => format!("%!{verb}(<nil>)"),
        value => format!("%!{verb}({}={})", value.type_name(), plain(value)),
    }
}
