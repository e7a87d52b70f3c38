//! `cargo xtask bench`: Wharf beside the engines that are installed, row by row, in turn.
//!
//! Every engine runs in namespaces and a data root of its own and has the same image. A row is repeated; in each round
//! every engine does the same thing once, one after the other, so that what slows the machine slows all. The figures are
//! medians of wall time and mean busy time of all processors; the ratio is the median of the rounds' ratios.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]
#![expect(clippy::expect_used, reason = "a measurement that cannot be set up ends with the reason")]

mod build;
mod files;
mod images;
mod memory;
mod net;
mod peer;
mod registries;
mod rows;
mod runtime;

use peer::Peer;
use rows::ROWS;

fn main() {
    if std::env::args().any(|argument| argument == runtime::INSIDE) {
        return runtime::inside();
    }
    if std::env::args().any(|argument| argument == net::INSIDE) {
        return net::inside();
    }
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if wanted.is_empty() || wanted.iter().any(|want| want == "runtime") {
        runtime::measure();
        if wanted.len() == 1 {
            return;
        }
    }
    let mut peers: Vec<Peer> = Peer::all();
    for missing in Peer::absent(&peers) {
        eprintln!("not installed, left out: {missing}");
    }
    let names: Vec<&str> = peers.iter().map(Peer::name).collect();
    println!("| row | {} | ratio |", names.join(" | "));
    println!("|---|{}---|", "--:|".repeat(names.len()));
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|want| name.contains(want.as_str()));
    for row in ROWS.iter().chain(files::ROWS).chain(net::ROWS).filter(|row| chosen(row.name)) {
        let result = rows::measure(row, &peers);
        println!("{result}");
    }
    let tables = [
        build::table(&mut peers, &chosen),
        images::table(&peers, &chosen),
        registries::table(&chosen),
        files::jobs(&peers, &chosen),
        net::table(&peers, &chosen),
    ];
    for line in tables.into_iter().flatten() {
        println!("{line}");
    }
    if wanted.is_empty() || wanted.iter().any(|want| want == "memory") {
        for line in memory::table(&peers) {
            println!("{line}");
        }
    }
}
