//! The runtime's command line as a program of its own, for trying it under other engines.

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    runtime::command::program(&arguments)
}
