//! Where a run computes: CUDA if its libraries and a device are there, else the CPU.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Cuda, Device, Kind, Tensor};

use crate::error::{EngineError, Result};
use crate::native;
use finetuned::domain::hyperparameters::{Hyperparameters, Precision};
use finetuned::domain::run::Devices;

/// The side of a matrix whose products all threads share.
const WARM: i64 = 256;
/// Bytes of a piece of memory that is touched.
const PIECE: u64 = 4 << 20;

/// The device of a run.
#[derive(Clone, Copy, Debug)]
pub struct ComputeDevice {
    pub device: Device,
    /// Steps whose numbers may be unread while the next one is on its way: reading them at once would leave a GPU without work.
    pub unread_steps: usize,
}

/// Loads libtorch's CUDA half if it lies beside the rest, so that one program serves machines with and without GPU.
/// Must come before any other use of libtorch, which looks for it once.
fn load_cuda() {
    // SAFETY: libtorch's own library, whose initialisers register operators and nothing else.
    if let Ok(library) = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
        std::mem::forget(library);
    }
}

/// What this machine offers.
pub fn available() -> Devices {
    load_cuda();
    let cuda = if Cuda::is_available() { Cuda::device_count().unsigned_abs() as usize } else { 0 };
    let cuda_memory = (0..cuda).map(|index| native::device_memory(index).ok()).min().flatten();
    Devices { cuda, cpu_bf16: cpu_has_bf16(), cuda_memory, folders: library_folders() }
}

/// Where the files lie that are mapped into this process (`proc_pid_maps(5)`).
fn library_folders() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    let files = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    // Memory that is mapped like a file has the name of none, and seems to lie in the root.
    folders_of(files.filter(|file| !file.starts_with("/dev") && file.is_file()), &program)
}

/// The folders of `files`. NVIDIA's packages load more of each other later: of those it is the folder that holds all of
/// them. What lies beside the program is named by itself, for that folder may hold anything.
fn folders_of<'a>(files: impl Iterator<Item = &'a Path>, program: &Path) -> Vec<PathBuf> {
    let folder = |file: &'a Path| {
        let package = file.ancestors().find(|folder| folder.ends_with("nvidia"));
        let folder = package.or_else(|| file.parent()).filter(|folder| Some(*folder) != program.parent());
        folder.unwrap_or(file).to_owned()
    };
    let folders: BTreeSet<PathBuf> = files.map(folder).collect();
    folders.into_iter().collect()
}

/// Chooses the device and prepares libtorch on this thread, which must be the one that trains. `wanted` is `auto`,
/// `cpu` or `cuda`; `threads` 0 means all cores.
///
/// # Errors
/// `wanted` is none of these, or `cuda` is not available.
pub fn prepare(wanted: &str, threads: usize) -> Result<ComputeDevice> {
    if wanted != "cpu" {
        load_cuda();
    }
    let device = match wanted {
        "auto" => Device::cuda_if_available(),
        "cpu" => Device::Cpu,
        "cuda" if Cuda::is_available() => Device::Cuda(0),
        other => return Err(EngineError::native(format!("the device {other} is not available"))),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    native::set_threads(if threads == 0 { cores } else { threads })?;
    native::set_arithmetic(true, false)?;
    Ok(ComputeDevice::new(device))
}

/// Has libtorch do once what every process does at its first step: load its libraries, start its threads, choose its kernels, and
/// touch so many bytes of memory.
///
/// # Errors
/// libtorch fails.
pub fn warm_up(wanted: &str, bytes: u64) -> Result<()> {
    if wanted != "cpu" {
        load_cuda();
    }
    // On the processor: a GPU's memory is for runs.
    let weight = Tensor::f_ones([WARM, WARM], (Kind::Float, Device::Cpu))?.f_set_requires_grad(true)?;
    weight.f_matmul(&weight)?.f_softmax(-1, Kind::Float)?.f_sum(Kind::Float)?.f_backward()?;
    // The system clears pages when they are first touched, which is half of the time to a small model's first step. Our
    // allocator keeps them for what comes.
    let touched = |bytes: u64| Tensor::f_ones([bytes.cast_signed()], (Kind::Uint8, Device::Cpu));
    // It keeps pieces of over 8 MiB apart from the others.
    let large = touched(bytes / 2)?;
    let others = (0..bytes / 2 / PIECE).map(|_| touched(PIECE)).collect::<std::result::Result<Vec<_>, _>>()?;
    drop((large, others));
    Ok(())
}

impl ComputeDevice {
    /// This one, as it is fastest.
    pub fn new(device: Device) -> Self {
        Self { device, unread_steps: usize::from(device != Device::Cpu) }
    }

    /// How people call it.
    pub fn name(self) -> &'static str {
        if self.device == Device::Cpu { "cpu" } else { "cuda" }
    }

    /// Has libtorch count from here on as a run with these hyperparameters does, and says in which precision that is.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn settle(self, hyperparameters: &Hyperparameters) -> Result<Precision> {
        let precision = self.precision(hyperparameters.precision);
        native::set_arithmetic(hyperparameters.deterministic, precision == Precision::Tf32)?;
        Ok(precision)
    }

    /// Replaces `auto` by what the device computes fastest without harm: bf16 where it has units for it. Processors have no
    /// TF32.
    pub fn precision(self, wanted: Precision) -> Precision {
        match wanted {
            Precision::Tf32 if self.device == Device::Cpu => Precision::Fp32,
            Precision::Auto if self.is_fast_in(Precision::Bf16) => Precision::Bf16,
            Precision::Auto => Precision::Fp32,
            chosen => chosen,
        }
    }

    /// Whether the device has units for this precision; without them bf16 is many times slower than fp32.
    pub fn is_fast_in(self, precision: Precision) -> bool {
        precision != Precision::Bf16 || self.device != Device::Cpu || cpu_has_bf16()
    }

    /// Most bytes of device memory held so far; None on the CPU.
    pub fn peak_memory(self) -> Option<u64> {
        if self.device == Device::Cpu { None } else { native::peak_device_memory().ok() }
    }
}

/// The type of matrix products in a precision.
pub fn compute_kind(precision: Precision) -> Kind {
    if precision == Precision::Bf16 { Kind::BFloat16 } else { Kind::Float }
}

#[cfg(target_arch = "x86_64")]
fn cpu_has_bf16() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_has_bf16() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{available, folders_of};

    #[test]
    fn what_lies_beside_the_program_is_named_file_by_file() {
        let files = [
            "/home/me/trainer",
            "/home/me/libtorch.so",
            "/home/me/lib/libc10.so",
            "/opt/nvidia/cudnn/lib/libcudnn.so.9",
            "/usr/lib/libc.so.6",
            "/usr/lib/libm.so.6",
        ];
        let named = folders_of(files.into_iter().map(Path::new), Path::new("/home/me/trainer"));
        let expected = ["/home/me/lib", "/home/me/libtorch.so", "/home/me/trainer", "/opt/nvidia", "/usr/lib"];
        assert_eq!(named, expected.map(PathBuf::from));
    }

    #[test]
    fn the_folder_of_this_program_is_not_named() {
        let program = std::env::current_exe().unwrap();
        let folders = available().folders;
        assert!(folders.contains(&program), "{folders:?}");
        assert!(!folders.iter().any(|folder| program.parent().unwrap().starts_with(folder)), "{folders:?}");
    }
}
