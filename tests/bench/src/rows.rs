//! What is timed.

use crate::peer::Peer;
use std::fmt;
use std::time::{Duration, Instant};

/// One row: what is done before each round, what is timed, what is done after.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) rounds: usize,
    pub(crate) before: fn(&Peer),
    pub(crate) work: fn(&Peer),
    pub(crate) after: fn(&Peer),
}

pub(crate) fn nothing(_peer: &Peer) {}

/// The rows of docs/performance.md that exist so far.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "run --rm true, bridge",
        rounds: 15,
        before: nothing,
        work: |peer| peer.ok(&["run", "--rm", "busybox", "true"]),
        after: nothing,
    },
    Row {
        name: "run --rm true, --net=none",
        rounds: 15,
        before: nothing,
        work: |peer| peer.ok(&["run", "--rm", "--net=none", "busybox", "true"]),
        after: nothing,
    },
    Row {
        name: "exec true",
        rounds: 15,
        before: sleeper,
        work: |peer| peer.ok(&["exec", "sleeper", "true"]),
        after: remove_sleeper,
    },
    Row { name: "version", rounds: 15, before: nothing, work: |peer| peer.ok(&["version"]), after: nothing },
    Row { name: "20 × run -d, in turn", rounds: 3, before: nothing, work: many, after: remove_many },
    Row { name: "ps with 20", rounds: 5, before: many, work: |peer| peer.ok(&["ps"]), after: remove_many },
    Row { name: "rm -f 20", rounds: 3, before: many, work: remove_many, after: nothing },
    Row {
        name: "run attached, 50 MB of lines",
        rounds: 3,
        before: nothing,
        work: |peer| {
            peer.ok(&[
                "run",
                "--rm",
                "busybox",
                "sh",
                "-c",
                "yes 0123456789012345678901234567890123456789 | head -c 50000000",
            ]);
        },
        after: nothing,
    },
    Row {
        name: "logs of 50 MB",
        rounds: 3,
        before: talker,
        work: |peer| peer.ok(&["logs", "talker"]),
        after: remove_talker,
    },
];

fn sleeper(peer: &Peer) {
    peer.ok(&["run", "-d", "--name", "sleeper", "busybox", "sleep", "1000"]);
}

fn remove_sleeper(peer: &Peer) {
    peer.ok(&["rm", "-f", "sleeper"]);
}

fn many(peer: &Peer) {
    for number in 0..20 {
        peer.ok(&["run", "-d", "--name", &format!("many{number}"), "busybox", "sleep", "1000"]);
    }
}

fn remove_many(peer: &Peer) {
    let names: Vec<String> = (0..20).map(|number| format!("many{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    peer.ok(&[&["rm", "-f"], names.as_slice()].concat());
}

fn talker(peer: &Peer) {
    peer.ok(&[
        "run",
        "--name",
        "talker",
        "busybox",
        "sh",
        "-c",
        "yes 0123456789012345678901234567890123456789 | head -c 50000000",
    ]);
}

fn remove_talker(peer: &Peer) {
    peer.ok(&["rm", "-f", "talker"]);
}

/// What a row gave.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    /// By peer: the rounds' wall times, and busy time of all processors in all rounds.
    pub(crate) peers: Vec<(&'static str, Vec<Duration>, Duration)>,
}

/// Measures a row.
pub(crate) fn measure(row: &Row, peers: &[Peer]) -> Measured {
    let mut measured: Vec<_> = peers.iter().map(|peer| (peer.name(), Vec::new(), Duration::ZERO)).collect();
    // The first round warms up and does not count.
    for round in 0..=row.rounds {
        for (peer, (_, times, busy)) in peers.iter().zip(&mut measured) {
            (row.before)(peer);
            let (begin, before) = (Instant::now(), busy_time());
            (row.work)(peer);
            let (wall, used) = (begin.elapsed(), busy_time().saturating_sub(before));
            if round > 0 {
                times.push(wall);
                *busy += used;
            }
            (row.after)(peer);
        }
    }
    Measured { name: row.name, peers: measured }
}

/// How often a row of images or registries is repeated.
pub(crate) const ROUNDS: usize = 3;

/// Times `work` on each of `sides` in turn, round by round; the first round does not count.
pub(crate) fn rounds<S>(
    name: &'static str,
    names: &[&'static str],
    sides: &mut [S],
    mut before: impl FnMut(&mut S),
    mut work: impl FnMut(&mut S),
) -> Measured {
    let mut measured: Vec<_> = names.iter().map(|name| (*name, Vec::new(), Duration::ZERO)).collect();
    for round in 0..=ROUNDS {
        for (side, (_, times, busy)) in sides.iter_mut().zip(&mut measured) {
            before(side);
            let (begin, used) = (Instant::now(), busy_time());
            work(side);
            let (wall, used) = (begin.elapsed(), busy_time().saturating_sub(used));
            if round > 0 {
                times.push(wall);
                *busy += used;
            }
        }
    }
    Measured { name, peers: measured }
}

/// Busy time of all processors since boot (/proc/stat, in ticks of 10 ms).
fn busy_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let ticks: u64 = fields.iter().take(8).sum::<u64>() - fields.iter().skip(3).take(2).sum::<u64>();
    Duration::from_millis(ticks * 10)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A line of the table: wall / busy in milliseconds, and ours against each peer.
impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} (ms) |", self.name)?;
        for (_, times, busy) in &self.peers {
            let rounds = u32::try_from(times.len()).unwrap_or(1).max(1);
            let wall = median(times.iter().map(|time| millis(*time)).collect());
            write!(f, " {wall:.1} / {:.0} |", millis(*busy / rounds))?;
        }
        let Some((_, own, _)) = self.peers.first() else { return Ok(()) };
        let ratios: Vec<String> = self
            .peers
            .iter()
            .skip(1)
            .map(|(name, times, _)| {
                let pairs = own.iter().zip(times).map(|(own, peer)| own.as_secs_f64() / peer.as_secs_f64());
                format!("{:.3} of {name}", median(pairs.collect()))
            })
            .collect();
        write!(f, " {} |", ratios.join(", "))
    }
}
