//! `stats`: one thread per container reads its samples, the main thread draws them.

use super::request;
use crate::error::Result;
use crate::flags::{Flag, Matches, switch};
use crate::list::{Listing, choose, short_id};
use crate::program::{Cli, print, warn};
use crate::{formats, units};
use api::container::Summary;
use api::stats::{BlkioEntry, Cpu, Memory, Stats};
use client::{Client, path_segment};
use gotemplate::Object;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Between two drawings.
const PERIOD: Duration = Duration::from_millis(500);

/// The flags of `stats`.
pub(crate) const FLAGS: &[Flag] = &[
    switch("all", "Show all containers (default shows just running)").short('a'),
    formats::TABLE_FLAG,
    switch("no-stream", "Disable streaming stats and only pull the first result"),
    switch("no-trunc", "Do not truncate output"),
];

const LISTING: Listing = Listing {
    type_name: "*container.statsContext",
    headers: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

const TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// `stats`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let format = choose(matches.text("format"), &cli.config().stats_format, false, TABLE, TABLE);
    let full = matches.switch("no-trunc");
    let client = cli.client()?;
    if matches.switch("no-stream") {
        let mut rows = Vec::new();
        for name in names(cli, matches)? {
            let sample = request(cli, "GET", &name, "/stats")?.query("stream", "0").decode::<Stats>()?;
            rows.push(row(&name, Some(&sample), full));
        }
        return LISTING.print(&format, rows);
    }
    let names_now = names(cli, matches)?;
    let shown: Samples = Mutex::new(BTreeMap::new());
    thread::scope(|scope| -> Result<()> {
        for name in &names_now {
            let samples = &shown;
            insert(samples, name, None);
            scope.spawn(move || collect(client, name, samples));
        }
        if matches.args.is_empty() {
            let (samples, all) = (&shown, matches.switch("all"));
            scope.spawn(move || follow(scope, client, samples, all));
        }
        loop {
            let rows = {
                let samples = shown.lock().unwrap_or_else(PoisonError::into_inner);
                if samples.is_empty() && !matches.args.is_empty() {
                    return Ok(());
                }
                samples.iter().map(|(name, sample)| row(name, sample.as_ref(), full)).collect()
            };
            let table = LISTING.render(&format, rows)?;
            // Home, each line cleared to its end, and then everything below.
            print(format!("\u{1b}[H{}\u{1b}[J", table.replace('\n', "\u{1b}[K\n")));
            thread::sleep(PERIOD);
        }
    })
}

/// The last sample of each container.
type Samples = Mutex<BTreeMap<String, Option<Stats>>>;

fn insert(samples: &Samples, name: &str, sample: Option<Stats>) {
    samples.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), sample);
}

fn remove(samples: &Samples, name: &str) {
    samples.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
}

/// Returns the containers asked for, or those there are.
fn names(cli: &Cli, matches: &Matches) -> Result<Vec<String>> {
    if !matches.args.is_empty() {
        return Ok(matches.args.clone());
    }
    let request = cli.client()?.request("GET", "/containers/json").flag("all", matches.switch("all"));
    let summaries: Vec<Summary> = request.decode()?;
    Ok(summaries.iter().map(|summary| short_id(&summary.id).to_owned()).collect())
}

/// Reads a container's samples until it is gone.
fn collect(client: &Client, name: &str, samples: &Samples) {
    let request =
        client.request("GET", format!("/containers/{}/stats", path_segment(name))).query("stream", "1");
    match request.send() {
        Err(error) => warn(error.to_string()),
        Ok(response) => {
            for line in BufReader::new(response).lines().map_while(std::result::Result::ok) {
                if let Ok(sample) = api::decode::<Stats>(line.as_bytes()) {
                    insert(samples, name, Some(sample));
                }
            }
        }
    }
    remove(samples, name);
}

/// Adds containers that start and takes away those that end.
fn follow<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    client: &'scope Client,
    samples: &'scope Samples,
    all: bool,
) {
    let mut filters = api::Filters::default();
    filters.add("type", "container");
    let Ok(response) = client.request("GET", "/events").query("filters", filters.encode()).send() else {
        return;
    };
    for line in BufReader::new(response).lines().map_while(std::result::Result::ok) {
        let Ok(event) = api::decode::<api::events::Message>(line.as_bytes()) else { continue };
        let name = short_id(&event.actor.id).to_owned();
        match event.action.as_str() {
            "start" => {
                insert(samples, &name, None);
                scope.spawn(move || collect(client, &name, samples));
            }
            "die" if !all => remove(samples, &name),
            "destroy" => remove(samples, &name),
            _ => {}
        }
    }
}

fn row(name: &str, sample: Option<&Stats>, full: bool) -> Object {
    let mut row = LISTING.row();
    row.push("Container", name);
    let Some(sample) = sample else {
        for (field, _) in LISTING.headers.iter().filter(|(field, _)| *field != "Container") {
            row.push(*field, "--");
        }
        let two = "-- / --";
        for field in row
            .fields
            .iter_mut()
            .filter(|field| ["MemUsage", "NetIO", "BlockIO"].contains(&field.name.as_str()))
        {
            field.value = two.into();
        }
        return row;
    };
    row.push("ID", if full { sample.id.as_str() } else { short_id(&sample.id) });
    row.push("Name", sample.name.strip_prefix('/').unwrap_or(&sample.name));
    row.push("CPUPerc", format!("{:.2}%", cpu_percent(&sample.cpu_stats, &sample.precpu_stats)));
    let (used, limit) = memory(&sample.memory_stats);
    row.push("MemUsage", format!("{} / {}", units::binary_size(used), units::binary_size(limit)));
    row.push("MemPerc", format!("{:.2}%", if limit > 0.0 { used / limit * 100.0 } else { 0.0 }));
    let received = sample.networks.values().map(|network| network.rx_bytes).sum();
    let sent = sample.networks.values().map(|network| network.tx_bytes).sum();
    row.push("NetIO", pair(received, sent));
    let (read, written) =
        blocks(sample.blkio_stats.io_service_bytes_recursive.as_deref().unwrap_or_default());
    row.push("BlockIO", pair(read, written));
    row.push("PIDs", sample.pids_stats.current.to_string());
    row
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn pair(a: u64, b: u64) -> String {
    format!("{} / {}", units::human_size_digits(a as f64, 3), units::human_size_digits(b as f64, 3))
}

/// Returns processor time used between two samples, in percent of one processor.
#[expect(clippy::cast_precision_loss, reason = "a quotient with two decimals")]
fn cpu_percent(now: &Cpu, before: &Cpu) -> f64 {
    let used = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let passed = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let processors = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.len() as f64,
        online => f64::from(online),
    };
    if used > 0.0 && passed > 0.0 { used / passed * processors * 100.0 } else { 0.0 }
}

/// Returns memory in use without the page cache that could be given up at once, and the limit.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn memory(memory: &Memory) -> (f64, f64) {
    // Version 1 of control groups counts descendants under `total_`.
    let cache = ["total_inactive_file", "inactive_file"].iter().find_map(|name| memory.stats.get(*name));
    let cache = cache.copied().filter(|cache| *cache < memory.usage).unwrap_or(0);
    ((memory.usage - cache) as f64, memory.limit as f64)
}

fn blocks(entries: &[BlkioEntry]) -> (u64, u64) {
    let sum = |wanted: char| {
        let of_kind = entries.iter().filter(|entry| entry.op.to_lowercase().starts_with(wanted));
        of_kind.map(|entry| entry.value).sum()
    };
    (sum('r'), sum('w'))
}
