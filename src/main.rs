//! `finetuned`: the control plane. It never loads libtorch.

use std::process::ExitCode;

fn main() -> ExitCode {
    let code = finetuned::cli::main();
    finetuned::telemetry::flush_logs();
    code
}
