//! Short commands about containers: one request each, or one per name.

use super::request;
use crate::each::each;
use crate::error::{Error, Result};
use crate::flags::{Flag, Kind, Matches, switch, text};
use crate::list::align_with;
use crate::program::{Cli, print, print_line, warn};
use api::container::{TopResponse, WaitResponse};
use api::host_config::PortMap;
use api::inspect::InspectResponse;

/// The flags of `stop` and `restart`.
pub(crate) const STOP_FLAGS: &[Flag] = &[
    text("signal", "Signal to send to the container").short('s'),
    Flag::new("timeout", Kind::Int, "Seconds to wait before killing the container").short('t'),
    Flag::new("time", Kind::Int, "Seconds to wait before killing the container").hidden(),
];

/// The flags of `kill`.
pub(crate) const KILL_FLAGS: &[Flag] = &[text("signal", "Signal to send to the container").short('s')];

/// The flags of `rm`.
pub(crate) const RM_FLAGS: &[Flag] = &[
    switch("force", "Force the removal of a running container (uses SIGKILL)").short('f'),
    switch("link", "Remove the specified link").short('l'),
    switch("volumes", "Remove anonymous volumes associated with the container").short('v'),
];

fn halt(cli: &Cli, matches: &Matches, verb: &str) -> Result<()> {
    if matches.changed("time") && matches.changed("timeout") {
        return Err(Error::message("conflicting options: cannot specify both --timeout and --time"));
    }
    let timeout = matches.given("timeout").or_else(|| matches.given("time")).unwrap_or_default();
    each(&matches.args, |name| {
        let request = request(cli, "POST", name, verb)?.query_if_set("signal", matches.text("signal"));
        request.query_if_set("t", timeout).done()?;
        Ok(Some(name.to_owned()))
    })
}

/// `stop`
pub(crate) fn stop(cli: &Cli, matches: &Matches) -> Result<()> {
    halt(cli, matches, "/stop")
}

/// `restart`
pub(crate) fn restart(cli: &Cli, matches: &Matches) -> Result<()> {
    halt(cli, matches, "/restart")
}

/// `kill`
pub(crate) fn kill(cli: &Cli, matches: &Matches) -> Result<()> {
    each(&matches.args, |name| {
        request(cli, "POST", name, "/kill")?.query_if_set("signal", matches.text("signal")).done()?;
        Ok(Some(name.to_owned()))
    })
}

/// `pause`
pub(crate) fn pause(cli: &Cli, matches: &Matches) -> Result<()> {
    each(&matches.args, |name| {
        request(cli, "POST", name, "/pause")?.done()?;
        Ok(Some(name.to_owned()))
    })
}

/// `unpause`
pub(crate) fn unpause(cli: &Cli, matches: &Matches) -> Result<()> {
    each(&matches.args, |name| {
        request(cli, "POST", name, "/unpause")?.done()?;
        Ok(Some(name.to_owned()))
    })
}

/// `rm`
pub(crate) fn rm(cli: &Cli, matches: &Matches) -> Result<()> {
    let force = matches.switch("force");
    each(&matches.args, |name| {
        let bare = name.trim_matches('/');
        if bare.is_empty() {
            return Err(Error::message("container name cannot be empty"));
        }
        let removed = request(cli, "DELETE", bare, "")?
            .flag("v", matches.switch("volumes"))
            .flag("link", matches.switch("link"))
            .flag("force", force)
            .done();
        match removed {
            // What is gone already need not be forced.
            Err(error) if force && error.is_not_found() => {
                warn(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error.into()),
            Ok(()) => Ok(Some(name.to_owned())),
        }
    })
}

/// `wait`
pub(crate) fn wait(cli: &Cli, matches: &Matches) -> Result<()> {
    each(&matches.args, |name| {
        let answer: WaitResponse = request(cli, "POST", name, "/wait")?.decode()?;
        match answer.error.filter(|error| !error.message.is_empty()) {
            Some(error) => Err(Error::message(error.message)),
            None => Ok(Some(answer.status_code.to_string())),
        }
    })
}

/// `rename`
pub(crate) fn rename(cli: &Cli, matches: &Matches) -> Result<()> {
    let (old, new) = (matches.arg(0).trim(), matches.arg(1).trim());
    if old.is_empty() || new.is_empty() {
        return Err(Error::message("Error: Neither old nor new names may be empty"));
    }
    let renamed = request(cli, "POST", old, "/rename")?.query("name", new).done();
    renamed.map_err(|error| Error::message(format!("{error}\nError: failed to rename container named {old}")))
}

/// `top`
pub(crate) fn top(cli: &Cli, matches: &Matches) -> Result<()> {
    let arguments = matches.args.get(1..).unwrap_or_default().join(" ");
    let answer: TopResponse =
        request(cli, "GET", matches.arg(0), "/top")?.query_if_set("ps_args", arguments).decode()?;
    let mut table = answer.titles.join("\t") + "\n";
    for process in &answer.processes {
        table.push_str(&(process.join("\t") + "\n"));
    }
    print(align_with(&table, 20, 3));
    Ok(())
}

/// `port`
pub(crate) fn port(cli: &Cli, matches: &Matches) -> Result<()> {
    let container: InspectResponse = request(cli, "GET", matches.arg(0), "/json")?.decode()?;
    let lines = published(&container.network_settings.ports, matches.arg(1), matches.arg(0))?;
    lines.iter().for_each(print_line);
    Ok(())
}

/// Returns the addresses of one port, or all ports with theirs, sorted by number.
fn published(ports: &PortMap, wanted: &str, container: &str) -> Result<Vec<String>> {
    let host = |binding: &api::host_config::PortBinding| match binding.host_ip.contains(':') {
        true => format!("[{}]:{}", binding.host_ip, binding.host_port),
        false => format!("{}:{}", binding.host_ip, binding.host_port),
    };
    if !wanted.is_empty() {
        let (port, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        if port.parse::<u16>().is_err() {
            let quoted = crate::values::quote(port);
            return Err(Error::message(format!(
                "Error: invalid port ({port}): strconv.ParseUint: parsing {quoted}: invalid syntax"
            )));
        }
        let bindings = ports
            .get(&format!("{port}/{protocol}"))
            .and_then(Option::as_ref)
            .filter(|found| !found.is_empty());
        let missing =
            || Error::message(format!("Error: No public port '{wanted}' published for {container}"));
        let mut lines: Vec<String> = bindings.ok_or_else(missing)?.iter().map(host).collect();
        lines.sort_by_cached_key(|line| natural(line));
        return Ok(lines);
    }
    let mut lines: Vec<String> = Vec::new();
    for (key, bindings) in ports {
        lines.extend(bindings.iter().flatten().map(|binding| format!("{key} -> {}", host(binding))));
    }
    lines.sort_by_cached_key(|line| natural(line));
    Ok(lines)
}

/// The order people expect: runs of digits by their value, everything else by its bytes.
fn natural(text: &str) -> Vec<(u64, char)> {
    let mut key: Vec<(u64, char)> = Vec::new();
    for character in text.chars() {
        match (character.to_digit(10), key.last_mut()) {
            (Some(digit), Some((number, '0'))) => {
                *number = number.saturating_mul(10).saturating_add(digit.into());
            }
            (Some(digit), _) => key.push((digit.into(), '0')),
            (None, _) => key.push((u64::from(u32::from(character)) << 32, character)),
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_shown_sorted() {
        let ports: PortMap = serde_json::from_str(
            r#"{"443/tcp":null,"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}],"9/udp":[{"HostIp":"1.2.3.4","HostPort":"1"}]}"#,
        )
        .unwrap();
        let all = published(&ports, "", "c").unwrap();
        assert_eq!(all, ["9/udp -> 1.2.3.4:1", "80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080"]);
        assert_eq!(published(&ports, "80", "c").unwrap(), ["0.0.0.0:8080", "[::]:8080"]);
        assert_eq!(
            published(&ports, "443", "c").unwrap_err().to_string(),
            "Error: No public port '443' published for c"
        );
    }
}
