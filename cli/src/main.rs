//! The command line of conclave.

fn main() -> std::process::ExitCode {
    conclave_cli::main(std::env::args_os())
}
