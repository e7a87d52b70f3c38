//! `RUN --mount=…`: comma-separated keys and values.

use crate::instruction::{Mount, MountKind, Owner, Sharing};
use crate::suggest::hint;

const KINDS: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const KEYS: [&str; 17] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
];
const MORE_KEYS: [&str; 2] = ["gid", "env"];
/// The mode of a secret's file.
const SECRET_MODE: u32 = 0o400;

/// Everything that can be said of a mount, as text.
#[derive(Default)]
struct Said {
    kind: Option<String>,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    writable: Option<bool>,
    id: Option<String>,
    sharing: Option<String>,
    required: bool,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

impl Mount {
    /// Reads the value of a `--mount`, its variables expanded.
    ///
    /// # Errors
    ///
    /// What is wrong, naming the key.
    pub fn parse(value: &str) -> Result<Self, String> {
        parse(value)
    }
}

fn parse(value: &str) -> Result<Mount, String> {
    let mut said = Said::default();
    for field in fields(value) {
        key(&mut said, &field)?;
    }
    let kind = said.kind.as_deref().unwrap_or("bind");
    check(kind, &said)?;
    let owner = |mode| Owner {
        mode: said.mode.unwrap_or(mode),
        uid: said.uid.unwrap_or(0),
        gid: said.gid.unwrap_or(0),
    };
    let place = || said.target.clone().ok_or_else(|| format!("{kind} mount requires a target"));
    let source = said.source.clone().unwrap_or_else(|| "/".to_owned());
    let (kind, target, writable) = match kind {
        "bind" => {
            let kind = MountKind::Bind { from: said.from.clone(), source };
            (kind, Some(place()?), said.writable.unwrap_or(false))
        }
        "cache" => {
            let sharing = match said.sharing.as_deref() {
                None | Some("shared") => Sharing::Shared,
                Some("private") => Sharing::Private,
                Some("locked") => Sharing::Locked,
                Some(other) => {
                    let hint = hint(other, ["shared", "private", "locked"]);
                    return Err(format!("unsupported sharing value {other:?}{hint}"));
                }
            };
            let (id, from) = (said.id.clone(), said.from.clone());
            let kind = MountKind::Cache { id, from, source, sharing, owner: owner(0o755) };
            (kind, Some(place()?), said.writable.unwrap_or(true))
        }
        "tmpfs" => (MountKind::Tmpfs { size: said.size }, Some(place()?), true),
        "secret" => {
            let base = said.target.as_deref().map(|path| path.rsplit('/').next().unwrap_or(path).to_owned());
            let id = said.id.clone().or(base).filter(|id| !id.is_empty());
            let id = id.ok_or("one of source, target required")?;
            // Only a variable: no file, unless one is asked for.
            let target =
                said.target.clone().or_else(|| said.env.is_none().then(|| format!("/run/secrets/{id}")));
            let (env, required) = (said.env.clone(), said.required);
            (MountKind::Secret { id, env, required, owner: owner(SECRET_MODE) }, target, false)
        }
        _ => {
            let id = said.id.clone().unwrap_or_else(|| "default".to_owned());
            (MountKind::Ssh { id, required: said.required, owner: owner(0o600) }, said.target.clone(), false)
        }
    };
    Ok(Mount { kind, target, writable })
}

/// Splits at commas as CSV does: a field in double quotes may hold commas.
pub(crate) fn fields(value: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in value.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => {
                if let Some(field) = fields.last_mut() {
                    field.push(c);
                }
            }
        }
    }
    fields.retain(|field| !field.trim().is_empty());
    fields
}

fn key(said: &mut Said, field: &str) -> Result<(), String> {
    let (key, value) = match field.split_once('=') {
        Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value)),
        None => (field.trim().to_ascii_lowercase(), None),
    };
    let switch = |value: Option<&str>| match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("invalid value for {key}: {other}")),
    };
    if !KEYS.contains(&key.as_str()) && !MORE_KEYS.contains(&key.as_str()) {
        let hint = hint(&key, KEYS.iter().chain(&MORE_KEYS).copied());
        return Err(format!("unexpected key '{key}' in '{field}'{hint}"));
    }
    match key.as_str() {
        "ro" | "readonly" => {
            said.writable = Some(!switch(value)?);
            return Ok(());
        }
        "rw" | "readwrite" => {
            said.writable = Some(switch(value)?);
            return Ok(());
        }
        "required" => {
            said.required = switch(value)?;
            return Ok(());
        }
        _ => {}
    }
    let Some(value) = value else { return Err(format!("invalid field '{field}' must be a key=value pair")) };
    let text = Some(value.to_owned());
    let number = |radix| {
        u32::from_str_radix(value, radix)
            .map(Some)
            .map_err(|_error| format!("invalid value {value} for {key}"))
    };
    match key.as_str() {
        "type" => said.kind = Some(value.to_ascii_lowercase()),
        "from" => said.from = text,
        "source" | "src" => said.source = text,
        "target" | "dst" | "destination" => said.target = text,
        "id" => said.id = text,
        "sharing" => said.sharing = Some(value.to_ascii_lowercase()),
        "size" => said.size = Some(size(value).ok_or_else(|| format!("invalid value {value} for size"))?),
        "mode" => said.mode = number(8)?,
        "uid" => said.uid = number(10)?,
        "gid" => said.gid = number(10)?,
        _ => said.env = text,
    }
    Ok(())
}

/// Refuses what does not go with the type.
fn check(kind: &str, said: &Said) -> Result<(), String> {
    if !KINDS.contains(&kind) {
        return Err(format!("unsupported mount type {kind:?}{}", hint(kind, KINDS)));
    }
    let given = [
        ("from", said.from.is_some(), &["bind", "cache"][..]),
        ("source", said.source.is_some() && kind != "secret", &["bind", "cache"]),
        ("id", said.id.is_some(), &["cache", "secret", "ssh"]),
        ("sharing", said.sharing.is_some(), &["cache"]),
        ("required", said.required, &["secret", "ssh"]),
        ("size", said.size.is_some(), &["tmpfs"]),
        ("mode", said.mode.is_some(), &["cache", "secret", "ssh"]),
        ("uid", said.uid.is_some(), &["cache", "secret", "ssh"]),
        ("gid", said.gid.is_some(), &["cache", "secret", "ssh"]),
        ("env", said.env.is_some(), &["secret"]),
    ];
    match given.iter().find(|(_, given, kinds)| *given && !kinds.contains(&kind)) {
        Some((key, _, _)) => Err(format!("unexpected key '{key}' for mount type '{kind}'")),
        None => Ok(()),
    }
}

/// Reads `64m`, `1GiB`, `1024`.
fn size(text: &str) -> Option<u64> {
    base::size::parse(text, base::size::Multiple::Binary).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_defaults() {
        let bind = parse("target=/a").unwrap();
        assert_eq!(bind.kind, MountKind::Bind { from: None, source: "/".to_owned() });
        assert!(!bind.writable);
        let cache = parse("type=cache,dst=/c,sharing=locked,mode=0700,uid=5,ro").unwrap();
        let owner = Owner { mode: 0o700, uid: 5, gid: 0 };
        let expect = MountKind::Cache {
            id: None,
            from: None,
            source: "/".to_owned(),
            sharing: Sharing::Locked,
            owner,
        };
        assert_eq!((cache.kind, cache.writable), (expect, false));
        assert_eq!(
            parse("type=tmpfs,target=/t,size=64m").unwrap().kind,
            MountKind::Tmpfs { size: Some(64 << 20) }
        );
        let secret = parse("type=secret,id=k").unwrap();
        assert_eq!(secret.target.as_deref(), Some("/run/secrets/k"));
        assert_eq!(parse("type=secret,id=k,env=K").unwrap().target, None);
        let named = parse("type=secret,target=/x/name,required").unwrap();
        let owner = Owner { mode: 0o400, uid: 0, gid: 0 };
        assert_eq!(named.kind, MountKind::Secret { id: "name".to_owned(), env: None, required: true, owner });
        assert!(matches!(parse("type=ssh").unwrap().kind, MountKind::Ssh { id, .. } if id == "default"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (value, expect) in [
            ("type=bnd,target=/a", "unsupported mount type \"bnd\" (did you mean bind?)"),
            ("type=bind,tagret=/a", "unexpected key 'tagret' in 'tagret=/a' (did you mean target?)"),
            ("type=bind,target", "invalid field 'target' must be a key=value pair"),
            ("type=cache", "cache mount requires a target"),
            ("type=cache,target=/a,sharing=x", "unsupported sharing value \"x\""),
            ("type=secret", "one of source, target required"),
            ("type=tmpfs,target=/t,size=x", "invalid value x for size"),
            ("type=bind,target=/a,mode=1", "unexpected key 'mode' for mount type 'bind'"),
            ("type=cache,target=/a,mode=9", "invalid value 9 for mode"),
        ] {
            assert_eq!(parse(value).unwrap_err(), expect, "{value}");
        }
    }
}
