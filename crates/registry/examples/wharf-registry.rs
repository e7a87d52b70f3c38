//! The registry alone, without the rest of the executable.

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    registry::main(&arguments)
}
