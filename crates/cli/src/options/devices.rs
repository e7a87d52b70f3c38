//! Devices: `--device`, `--device-cgroup-rule`, `--gpus`.

use crate::values;
use api::StringMap;
use api::host_config::{DeviceMapping, DeviceRequest};

/// What device a value of `--device` means.
#[derive(Debug, PartialEq, Eq)]
enum Device {
    Mapping(DeviceMapping),
    /// `vendor/class=name`, of the Container Device Interface.
    Named(String),
}

/// Returns the devices that are mapped, and those that are asked for by name.
pub(crate) fn devices(texts: &[String]) -> Result<(Vec<DeviceMapping>, Vec<String>), String> {
    let (mut mappings, mut names) = (Vec::new(), Vec::new());
    for text in texts {
        match parse(text)? {
            Device::Mapping(mapping) => mappings.push(mapping),
            Device::Named(name) => names.push(name),
        }
    }
    Ok((mappings, names))
}

/// `host[:container][:rwm]`
fn parse(text: &str) -> Result<Device, String> {
    if is_cdi_name(text) {
        return Ok(Device::Named(text.to_owned()));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match *parts.as_slice() {
        [host] => (host, host, "rwm"),
        [host, second] if is_permissions(second) => (host, host, second),
        [host, container] => (host, container, "rwm"),
        [host, container, permissions] if is_permissions(permissions) => (host, container, permissions),
        [_, _, permissions] => return Err(format!("bad mode specified: {permissions}")),
        _ => return Err(format!("bad format for path: {text}")),
    };
    let container = if container.is_empty() { host } else { container };
    if host.is_empty() || !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    Ok(Device::Mapping(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    }))
}

fn is_permissions(text: &str) -> bool {
    let once = |letter: char| text.matches(letter).count() <= 1;
    !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter) && once(letter))
}

fn is_cdi_name(text: &str) -> bool {
    let word = |text: &str, extra: &str| {
        text.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || extra.contains(letter))
    };
    let Some((kind, name)) = text.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    word(vendor, "_-.") && word(class, "_-") && !name.is_empty()
}

/// `type major:minor permissions`
pub(crate) fn check_rule(text: &str) -> Result<(), String> {
    let invalid = || Err(format!("invalid device cgroup format '{text}'"));
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, permissions] = *words.as_slice() else { return invalid() };
    let number =
        |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()));
    let numbers_fit = numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor));
    let letters_fit =
        (1..=3).contains(&permissions.len()) && permissions.chars().all(|letter| "rwm".contains(letter));
    if matches!(kind, "a" | "b" | "c") && numbers_fit && letters_fit { Ok(()) } else { invalid() }
}

pub(crate) fn check_gpus(text: &str) -> Result<(), String> {
    parse_gpus(text).map(drop)
}

/// Returns what `--gpus` asks for.
pub(crate) fn gpus(texts: &[String]) -> Vec<DeviceRequest> {
    texts.iter().filter_map(|text| parse_gpus(text).ok()).collect()
}

/// `all`, a number, or `device=…,capabilities=…,driver=…,options=…`
fn parse_gpus(text: &str) -> Result<DeviceRequest, String> {
    let count = |text: &str| match text {
        "all" => Ok(-1),
        _ => text.parse::<i64>().map_err(|_no_number| {
            format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax")
        }),
    };
    let mut request =
        DeviceRequest { capabilities: Some(vec![vec!["gpu".to_owned()]]), ..DeviceRequest::default() };
    let mut seen: Vec<String> = Vec::new();
    let mut set_count = false;
    for field in values::fields(text)? {
        let (name, value) = field.split_once('=').unwrap_or((&field, ""));
        let name = name.trim().to_lowercase();
        if seen.contains(&name) {
            return Err(format!("gpu request key '{name}' can be specified only once"));
        }
        let named = field.contains('=');
        match name.as_str() {
            "driver" if named => value.clone_into(&mut request.driver),
            "count" if named => (request.count, set_count) = (count(value)?, true),
            "device" if named => {
                request.device_ids = Some(value.split(',').map(str::to_owned).collect());
            }
            "capabilities" if named => {
                let mut all: Vec<String> = value.split(',').map(str::to_owned).collect();
                all.push("gpu".to_owned());
                request.capabilities = Some(vec![all]);
            }
            "options" if named => {
                request.options = Some(values::map(&values::fields(value)?));
            }
            _ if named => return Err(format!("unexpected key '{name}' in '{field}'")),
            _ => (request.count, set_count) = (count(&field)?, true),
        }
        seen.push(name);
    }
    if !set_count && request.device_ids.is_none() {
        request.count = 1;
    }
    request.options.get_or_insert_with(StringMap::new);
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_in_every_form() {
        let check = |text: &str, expect: Result<(&str, &str, &str), &str>| {
            let parsed = parse(text).map(|device| match device {
                Device::Mapping(map) => (map.path_on_host, map.path_in_container, map.cgroup_permissions),
                Device::Named(name) => (name, String::new(), String::new()),
            });
            let expect = expect.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
            assert_eq!(parsed, expect.map_err(str::to_owned), "{text}");
        };
        check("/dev/a", Ok(("/dev/a", "/dev/a", "rwm")));
        check("/dev/a:r", Ok(("/dev/a", "/dev/a", "r")));
        check("/dev/a:/dev/b", Ok(("/dev/a", "/dev/b", "rwm")));
        check("/dev/a:/dev/b:rw", Ok(("/dev/a", "/dev/b", "rw")));
        check("vendor.com/class=name", Ok(("vendor.com/class=name", "", "")));
        check("/dev/a:/dev/b:x", Err("bad mode specified: x"));
        check("/dev/a:b", Err("b is not an absolute path"));
    }

    #[test]
    fn gpus_in_every_form() {
        assert_eq!(parse_gpus("all").map(|request| request.count), Ok(-1));
        assert_eq!(parse_gpus("2").map(|request| request.count), Ok(2));
        let request = parse_gpus("\"device=0,1\",capabilities=compute").unwrap();
        assert_eq!(request.device_ids, Some(vec!["0".to_owned(), "1".to_owned()]));
        assert_eq!(request.capabilities, Some(vec![vec!["compute".to_owned(), "gpu".to_owned()]]));
        assert_eq!(parse_gpus("x=1"), Err("unexpected key 'x' in 'x=1'".to_owned()));
        assert_eq!(check_rule("c 1:* rw"), Ok(()));
        assert_eq!(check_rule("d 1:* rw"), Err("invalid device cgroup format 'd 1:* rw'".to_owned()));
    }
}
