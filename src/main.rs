//! `finetuned`: the control plane. It never loads libtorch.

use std::process::ExitCode;

fn main() -> ExitCode {
    finetuned::cli::main()
}
