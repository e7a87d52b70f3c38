//! `login` and `logout`: credentials are checked by the engine and kept as Docker's client keeps them: by a helper
//! program (`credsStore`, `credHelpers`), else in `config.json`.

use crate::config::{HUB, helper};
use crate::error::{Error, Result};
use crate::flags::{Flag, Matches, switch, text};
use crate::images::{TLS_VERIFY, unverified};
use crate::program::{Cli, print, print_line, warn};
use api::registry::{AuthConfig, AuthResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{BufRead, IsTerminal, Read, Write, stdin};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The flags of `login`.
pub(crate) const FLAGS: &[Flag] = &[
    text("password", "Password or Personal Access Token (PAT)").short('p'),
    switch("password-stdin", "Take the Password or Personal Access Token (PAT) from stdin"),
    TLS_VERIFY,
    text("username", "Username").short('u'),
    // What guides of before 2017 have; registries have not asked for it since.
    text("email", "Email").short('e').hidden(),
];

/// Returns the name that credentials of a server are kept under.
fn server_key(server: &str) -> String {
    let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let host = bare.split('/').next().unwrap_or_default();
    match host {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}

/// `login`
pub(crate) fn login(cli: &Cli, matches: &Matches) -> Result<()> {
    let mut username = matches.text("username").trim().to_owned();
    let mut password = matches.text("password").to_owned();
    let from_stdin = matches.switch("password-stdin");
    if from_stdin && matches.given("password").is_some() {
        return Err(Error::message(
            "conflicting options: cannot specify both --password and --password-stdin",
        ));
    }
    if !password.is_empty() {
        warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if from_stdin {
        if username.is_empty() {
            return Err(Error::message("the --password-stdin option requires --username to be set"));
        }
        let mut input = String::new();
        stdin().read_to_string(&mut input).map_err(Error::file("read", "standard input"))?;
        input.trim_end_matches(['\r', '\n']).clone_into(&mut password);
    }
    let serveraddress = server_key(matches.arg(0));
    if username.is_empty() && password.is_empty() && again(cli, &serveraddress, matches)? {
        return Ok(());
    }
    if username.is_empty() || password.is_empty() {
        if !stdin().is_terminal() {
            return Err(Error::message("Error: Cannot perform an interactive login from a non TTY device"));
        }
        if username.is_empty() {
            username = prompt("Username: ")?;
        }
        if password.is_empty() {
            password = prompt_hidden("Password: ")?;
        }
    }
    if password.is_empty() {
        return Err(Error::message("Error: password required"));
    }
    let credentials = AuthConfig { username, password, serveraddress, ..AuthConfig::default() };
    let verify = unverified(matches.switch("tls-verify"));
    let request = cli.client()?.request("POST", "/auth").query_if_set("tlsVerify", verify);
    let answer: AuthResponse = request.json(&credentials).decode()?;
    keep(cli, &credentials, &answer.identity_token)?;
    if !answer.status.is_empty() {
        print_line(answer.status);
    }
    Ok(())
}

/// Tries the credentials that are kept for a server; says whether they are still good.
fn again(cli: &Cli, server: &str, matches: &Matches) -> Result<bool> {
    let known = cli.config().stored(server);
    if known.username.is_empty() && known.identitytoken.is_empty() {
        return Ok(false);
    }
    warn(format!("Authenticating with existing credentials... [Username: {}]", known.username));
    warn(
        "
 Info -> To login with a different account, run 'wharf logout' followed by 'wharf login'\n\n",
    );
    let credentials = AuthConfig { serveraddress: server.to_owned(), ..known };
    let verify = unverified(matches.switch("tls-verify"));
    let request = cli.client()?.request("POST", "/auth").query_if_set("tlsVerify", verify);
    match request.json(&credentials).decode::<AuthResponse>() {
        Ok(answer) => {
            print_line(answer.status);
            Ok(true)
        }
        Err(error) => {
            warn(format!("Login did not succeed, error: {error}"));
            Ok(false)
        }
    }
}

fn prompt(text: &str) -> Result<String> {
    print(text);
    let mut line = String::new();
    stdin().lock().read_line(&mut line).map_err(Error::file("read", "standard input"))?;
    Ok(line.trim().to_owned())
}

fn prompt_hidden(text: &str) -> Result<String> {
    let terminal = stdin();
    let before = tcgetattr(&terminal).map_err(|errno| Error::file("read", "the terminal")(errno.into()))?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Now, &hidden)
        .map_err(|errno| Error::file("set", "the terminal")(errno.into()))?;
    let line = prompt(text);
    // The terminal may have been hung up: nothing is left to restore.
    let _restored = tcsetattr(&terminal, OptionalActions::Now, &before);
    print_line("");
    line
}

fn keep(cli: &Cli, credentials: &AuthConfig, identity_token: &str) -> Result<()> {
    let server = &credentials.serveraddress;
    if let Some(name) = cli.config().helper_for(server) {
        let (username, secret) = match identity_token {
            "" => (credentials.username.as_str(), credentials.password.as_str()),
            token => ("<token>", token),
        };
        let document = json!({ "ServerURL": server, "Username": username, "Secret": secret });
        return helper(name, "store", document.to_string().as_bytes()).map(drop).ok_or_else(|| {
            Error::message(format!("error storing credentials: docker-credential-{name} failed"))
        });
    }
    let mut entry = Map::new();
    let pair = if identity_token.is_empty() {
        format!("{}:{}", credentials.username, credentials.password)
    } else {
        entry.insert("identitytoken".to_owned(), identity_token.into());
        format!("{}:", credentials.username)
    };
    entry.insert("auth".to_owned(), STANDARD.encode(pair).into());
    let mut known = false;
    let path = change(cli, |auths| {
        let entry = Value::Object(entry);
        known = auths.get(server) == Some(&entry);
        auths.insert(server.clone(), entry);
    })?;
    // Whoever keeps the same again has been told.
    if known {
        return Ok(());
    }
    warn(format!(
        "\nWARNING! Your credentials are stored unencrypted in '{path}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n"
    ));
    Ok(())
}

/// `logout`
pub(crate) fn logout(cli: &Cli, matches: &Matches) -> Result<()> {
    let server = server_key(matches.arg(0));
    print_line(format!("Removing login credentials for {server}"));
    if let Some(name) = cli.config().helper_for(&server) {
        // What the helper does not know is gone already.
        drop(helper(name, "erase", server.as_bytes()));
    }
    if !cli.config().auths.is_empty() {
        change(cli, |auths| auths.retain(|key, _| server_key(key) != server))?;
    }
    Ok(())
}

/// Changes the `auths` of `config.json`, leaving all else as it is; returns the file's path.
fn change(cli: &Cli, edit: impl FnOnce(&mut Map<String, Value>)) -> Result<String> {
    change_config(cli, |document| {
        if let Value::Object(auths) = document.entry("auths").or_insert_with(|| json!({})) {
            edit(auths);
        }
    })
}

/// Changes `config.json`; returns the file's path.
pub(crate) fn change_config(cli: &Cli, edit: impl FnOnce(&mut Map<String, Value>)) -> Result<String> {
    let directory =
        cli.config_dir().ok_or_else(|| Error::message("no home directory for the configuration"))?;
    let path = directory.join("config.json");
    let shown = path.display().to_string();
    let mut document: Map<String, Value> = match fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| Error::message(format!("{shown}: {error}")))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(Error::file("open", shown)(error)),
    };
    edit(&mut document);
    fs::create_dir_all(directory).map_err(Error::file("mkdir", directory.display().to_string()))?;
    write(&path, &Value::Object(document)).map_err(Error::file("write", shown.clone()))?;
    Ok(shown)
}

/// Writes the file for its owner only, beside it first.
fn write(path: &Path, document: &Value) -> std::io::Result<()> {
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, indent);
    serde::Serialize::serialize(document, &mut serializer)?;
    let partial = path.with_extension(format!("json.{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    let written =
        file.write_all(&text).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        drop(fs::remove_file(&partial));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_one_name() {
        for (given, key) in [
            ("", HUB),
            ("docker.io", HUB),
            ("https://index.docker.io/v1/", HUB),
            ("https://r.example:5000/v2/", "r.example:5000"),
            ("r.example", "r.example"),
        ] {
            assert_eq!(server_key(given), key);
        }
    }
}
