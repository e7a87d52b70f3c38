//! The command line as a program of its own, for trying it against any engine.

fn main() -> std::process::ExitCode {
    cli::main(std::env::args())
}
