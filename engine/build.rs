//! Compiles the C++ shim of `native/` against the libtorch that torch-sys found.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=native");
    let Ok(libtorch) = env::var("DEP_TCH_LIBTORCH_LIB") else {
        panic!("torch-sys did not say where libtorch lies; `make setup` fetches it");
    };
    // Programs of this build find libtorch where it lies now; LD_LIBRARY_PATH wins over it elsewhere.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}");
    kernels();
    let mut shim = cpp();
    shim.include(format!("{libtorch}/../include"))
        .include(format!("{libtorch}/../include/torch/csrc/api/include"))
        .files(
            [
                "ops",
                "decoder_ops",
                "lora_ops",
                "nf4",
                "checkpoint",
                "packed_attention",
                "profile",
                "optim",
                "adamw_8bit",
                "readback",
                "generator",
                "runtime",
                "dispatch",
            ]
            .map(|name| format!("native/{name}.cpp")),
        );
    if is_x86_64() {
        shim.define("FT_HAVE_X86_64_LEVELS", None);
    }
    shim.compile("finetuned_shim");
    println!("cargo:rustc-link-lib=gomp");
}

/// One archive of kernels per instruction set; dispatch.cpp chooses at run time.
fn kernels() {
    kernel_archive("baseline", &[]);
    if is_x86_64() {
        kernel_archive("v3", &["-march=x86-64-v3"]);
        kernel_archive("v4", &["-march=x86-64-v4", "-mprefer-vector-width=512"]);
    }
}

fn kernel_archive(isa: &str, flags: &[&str]) {
    let mut build = cpp();
    // Reassociation lets sums vectorise; NaN and infinity keep their meaning.
    build.flags(["-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"]);
    build.flags(flags).define("FT_ISA", isa).files(["native/kernels.cpp", "native/decoder.cpp"]);
    build.compile(&format!("finetuned_kernels_{isa}"));
}

fn cpp() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).flag("-fopenmp").flag("-Wno-unused-parameter").flag("-Wno-psabi");
    build
}

fn is_x86_64() -> bool {
    env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64")
}
