//! The binary: hidden roles first (no runtime, no configuration: they start thousands of times), then the command line.

mod cli;
mod client;
mod config;
mod control;
mod instance;
mod kubeconfig;
mod output;
mod platform;
mod ports;

use std::ffi::OsString;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let program = arguments.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    if node::pip_front::is_front(&program) {
        node::pip_front::run(arguments);
    }
    match arguments.get(1).and_then(|role| role.to_str()) {
        Some("shim") => shim::main(&arguments[2..]),
        Some("launch") => launch(&arguments[2..]),
        _ => cli::main(),
    }
}

/// The first process of a step: see `pipelines::launcher`.
fn launch(arguments: &[OsString]) -> ExitCode {
    let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    match pipelines::launcher::run(&arguments) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("the step could not be launched: {}", foundation::problem::chain(&error));
            ExitCode::from(125)
        }
    }
}
