//! The processes of a container, as `ps` on the host shows them.
//!
//! The usual form (`-ef`) is made here from /proc; any other is the host's own `ps`, filtered by process.

use super::state::State;
use super::{Containers, control};
use crate::error::{Error, Result};
use api::container::TopResponse;
use base::{Kind, Timestamp};
use std::fs;
use std::process::Command;

/// Clock ticks a second in /proc (sysconf(3), `_SC_CLK_TCK`: 100 on every Linux architecture).
const TICKS: u64 = 100;

impl Containers {
    /// Returns the processes of a running container.
    ///
    /// # Errors
    ///
    /// Fails if it does not run, or the host's `ps` refuses the arguments or prints no PID column.
    pub fn top(&self, name: &str, arguments: &str) -> Result<TopResponse> {
        let container = self.get(name)?;
        match &container.state {
            State::Running(_) | State::Paused(_) => {}
            State::Restarting(_) => return Err(control::restarting(&container)),
            _ => return Err(control::not_running(&container)),
        }
        let hierarchy = self.host.hierarchy.as_ref().ok_or_else(|| {
            Error::known(Kind::NotImplemented, "no control groups are mounted on this host")
        })?;
        let pids = cgroups::Cgroup::open(hierarchy, &self.cgroup_path(&container)?)?.processes()?;
        let response = match arguments.trim() {
            "" | "-ef" => full(&pids),
            arguments => filtered(arguments, &pids)?,
        };
        self.tell(&container, "top", &[]);
        Ok(response)
    }
}

/// `ps -ef`.
fn full(pids: &[i32]) -> TopResponse {
    let titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"].map(str::to_owned).to_vec();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let boot = boot_time(&fs::read_to_string("/proc/stat").unwrap_or_default());
    let now = super::now().as_secs().unsigned_abs();
    let processes = pids.iter().filter_map(|pid| row(*pid, &users, boot, now)).collect();
    TopResponse { titles, processes }
}

fn boot_time(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(0)
}

/// One line of `ps -ef`; `None` if the process is gone.
fn row(pid: i32, users: &str, boot: u64, now: u64) -> Option<Vec<String>> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
    let stat = read("stat").ok()?;
    // The command's name may hold anything; the fields follow its last parenthesis (proc_pid_stat(5)).
    let (head, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let (parent, terminal) = (number(1), number(4));
    let ticks = (number(11) + number(12)).unsigned_abs();
    let started = boot + number(19).unsigned_abs() / TICKS;
    let status = read("status").ok()?;
    let uid =
        status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.to_owned();
    let command = read("cmdline").ok()?;
    let command = match command.trim_end_matches('\0') {
        "" => format!("[{}]", head.split_once('(').map_or("", |(_, name)| name)),
        words => words.replace('\0', " "),
    };
    let seconds = ticks / TICKS;
    let elapsed = now.saturating_sub(started).max(1);
    Some(vec![
        user_name(users, &uid),
        pid.to_string(),
        parent.to_string(),
        (seconds * 100 / elapsed).min(99).to_string(),
        start_text(started, now),
        terminal_name(terminal),
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        command,
    ])
}

fn user_name(users: &str, uid: &str) -> String {
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid && name.len() <= 8).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_owned())
}

/// `15:04` for today's processes, `Jan02` for older ones, as ps prints them (UTC).
fn start_text(started: u64, now: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let nanos = i64::try_from(started).unwrap_or(0).saturating_mul(1_000_000_000);
    let text = Timestamp::from_nanos(nanos).to_string();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    if started / 86_400 == now / 86_400 {
        return part(11, 16).to_owned();
    }
    let month =
        part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1))).unwrap_or(&"");
    format!("{month}{}", part(8, 10))
}

/// The terminal of a device number: pts/N, ttyN or `?`.
fn terminal_name(device: i64) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    match major {
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        4 => format!("tty{minor}"),
        _ => "?".to_owned(),
    }
}

/// The host's `ps ARGUMENTS`, without the lines of other processes.
fn filtered(arguments: &str, pids: &[i32]) -> Result<TopResponse> {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let output = Command::new("ps").args(&words).output().map_err(|error| {
        Error::known(Kind::Internal, format!("error running ps: run {arguments:?}: {error}"))
    })?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::known(Kind::Internal, format!("error running ps: {reason}")));
    }
    parse(&String::from_utf8_lossy(&output.stdout), pids)
}

fn parse(text: &str, pids: &[i32]) -> Result<TopResponse> {
    let mut lines = text.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let Some(column) = titles.iter().position(|title| title == "PID") else {
        return Err(Error::known(Kind::Internal, "Couldn't find PID field in ps output"));
    };
    let processes = lines
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let pid: i32 = words.get(column)?.parse().ok()?;
            if !pids.contains(&pid) {
                return None;
            }
            // The last column is the command with all its words.
            let (front, rest) = words.split_at_checked(titles.len().saturating_sub(1))?;
            Some(front.iter().map(|word| (*word).to_owned()).chain([rest.join(" ")]).collect())
        })
        .collect();
    Ok(TopResponse { titles, processes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_processes_are_left_out() {
        let text = "  PID USER COMMAND\n    1 root init\n   42 bob sleep 5 6\n";
        let response = parse(text, &[42]).unwrap();
        assert_eq!(response.processes, [["42", "bob", "sleep 5 6"]]);
        assert!(parse("USER\nroot\n", &[1]).is_err());
    }

    #[test]
    fn own_process_is_shown() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let response = full(&[pid]);
        assert_eq!(response.processes[0][1], pid.to_string());
        assert_eq!(terminal_name(136 << 8 | 3), "pts/3");
        assert_eq!(start_text(0, 86_400 * 3), "Jan01");
    }
}
