//! `RUN --device=…`: a name of the Container Device Interface and whether it must be there.

use crate::instruction::Device;
use crate::mount::fields;
use crate::suggest::hint;

impl Device {
    /// Reads the value of a `--device`: `NAME[,required]`, or `name=NAME,required=BOOL`.
    ///
    /// # Errors
    ///
    /// What is wrong, naming the key.
    pub fn parse(value: &str) -> Result<Self, String> {
        let (mut name, mut required) = (String::new(), false);
        for field in fields(value) {
            let (key, setting) = field.split_once('=').map_or((field.as_str(), None), |(k, v)| (k, Some(v)));
            match (key.to_ascii_lowercase().as_str(), setting) {
                ("required", None | Some("true" | "1")) => required = true,
                ("required", Some("false" | "0")) => required = false,
                ("required", Some(other)) => return Err(format!("invalid value for required: {other}")),
                ("name", Some(_)) if !name.is_empty() => {
                    return Err(format!("device name already set to {name}"));
                }
                ("name", Some(given)) => given.clone_into(&mut name),
                // `VENDOR/CLASS=DEVICE` looks like a key and its value.
                (_, _) if name.is_empty() => name = field,
                (_, None) => return Err(format!("invalid field '{field}' must be a key=value pair")),
                (other, Some(_)) => {
                    let hint = hint(other, ["name", "required"]);
                    return Err(format!("unexpected key '{other}' in '{field}'{hint}"));
                }
            }
        }
        if name.is_empty() {
            return Err("a device needs a name".to_owned());
        }
        Ok(Self { name, required })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        for (value, name, required) in [
            ("v.org/c=a", "v.org/c=a", false),
            ("v.org/c=a,required", "v.org/c=a", true),
            ("name=v.org/c,required=true", "v.org/c", true),
            ("v.org/c=*,required=0", "v.org/c=*", false),
        ] {
            assert_eq!(Device::parse(value), Ok(Device { name: name.to_owned(), required }), "{value}");
        }
        for (value, expect) in [
            ("required", "a device needs a name"),
            ("a,required=x", "invalid value for required: x"),
            ("name=a,name=b", "device name already set to a"),
            ("a,b", "invalid field 'b' must be a key=value pair"),
            ("a,reqired=1", "unexpected key 'reqired' in 'reqired=1' (did you mean required?)"),
        ] {
            assert_eq!(Device::parse(value).unwrap_err(), expect, "{value}");
        }
    }
}
