//! Writing `safetensors` files, tensor by tensor, so that no more than one is held besides those that are held anyway.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, View};
use tch::{Device, Kind, Tensor};

use super::malformed;
use crate::error::{EngineError, Result};

/// A tensor without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    pub shape: Vec<i64>,
    /// The type that it is written in.
    pub kind: Kind,
}

impl Described {
    /// Bytes of its values.
    pub fn bytes(&self) -> u64 {
        let values: u64 = self.shape.iter().map(|size| size.unsigned_abs()).product();
        values * self.kind.elt_size_in_bytes() as u64
    }
}

/// Tensors that are made when their turn comes.
pub trait Tensors {
    /// All of them, in the order of their names.
    fn list(&self) -> Vec<Described>;

    /// The values of one, in any type and on any device.
    ///
    /// # Errors
    /// It cannot be made.
    fn tensor(&self, name: &str) -> Result<Tensor>;

    /// Bytes of all of them as they are written.
    fn bytes(&self) -> u64 {
        self.list().iter().map(Described::bytes).sum()
    }

    /// Whether the values of one are held, and not made when they are asked for.
    fn holds(&self, name: &str) -> bool;
}

/// Int64 and uint8 as they are, all others in float32.
impl Tensors for BTreeMap<String, Tensor> {
    fn list(&self) -> Vec<Described> {
        let described = |(name, tensor): (&String, &Tensor)| {
            let kind =
                Some(tensor.kind()).filter(|kind| matches!(kind, Kind::Int64 | Kind::Uint8)).unwrap_or(Kind::Float);
            Described { name: name.clone(), shape: tensor.size(), kind }
        };
        self.iter().map(described).collect()
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let missing = || EngineError::native(format!("there is no tensor {name}"));
        self.get(name).map(Tensor::shallow_clone).ok_or_else(missing)
    }

    fn holds(&self, name: &str) -> bool {
        self.contains_key(name)
    }
}

/// Writes tensors to one file, with the metadata that Transformers expects (`format: pt`), and syncs it.
///
/// # Errors
/// A tensor cannot be made, or the file cannot be written.
pub fn write(path: &Path, tensors: &impl Tensors) -> Result<()> {
    write_listed(path, tensors, tensors.list())
}

/// A tensor as the format's library asks for it. That cannot be told of a failure, so the first one is left in `failed`,
/// and what is written is worthless.
struct Lazy<'a, T> {
    tensors: &'a T,
    described: Described,
    shape: Vec<usize>,
    /// The tensor, where it is held elsewhere anyway.
    held: OnceCell<Tensor>,
    failed: &'a RefCell<Option<EngineError>>,
}

impl<T: Tensors> Lazy<'_, T> {
    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let _guard = tch::no_grad_guard();
        let source = self.tensors.tensor(&self.described.name)?;
        let is_held = source.device() == Device::Cpu && self.tensors.holds(&self.described.name);
        let tensor = source.f_detach()?.f_to_kind(self.described.kind)?.f_to_device(Device::Cpu)?.f_contiguous()?;
        if is_held && tensor.data_ptr() == source.data_ptr() {
            return Ok(Cow::Borrowed(bytes_of(self.held.get_or_init(|| tensor))));
        }
        Ok(Cow::Owned(bytes_of(&tensor).to_vec()))
    }
}

/// The bytes of a contiguous tensor on the CPU.
fn bytes_of(tensor: &Tensor) -> &[u8] {
    let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
    // SAFETY: a contiguous CPU tensor has so many bytes, and lives as long as the slice.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), length) }
}

impl<T: Tensors> View for Lazy<'_, T> {
    fn dtype(&self) -> Dtype {
        match self.described.kind {
            Kind::Int64 => Dtype::I64,
            Kind::Uint8 => Dtype::U8,
            Kind::Half => Dtype::F16,
            Kind::BFloat16 => Dtype::BF16,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        if self.failed.borrow().is_none() {
            match self.bytes() {
                Ok(bytes) => return bytes,
                Err(error) => *self.failed.borrow_mut() = Some(error),
            }
        }
        Cow::Borrowed(&[])
    }

    fn data_len(&self) -> usize {
        usize::try_from(self.described.bytes()).unwrap_or(usize::MAX)
    }
}

/// [`write`] of those that are `listed`.
///
/// # Errors
/// See [`write`].
pub fn write_listed(path: &Path, tensors: &impl Tensors, listed: Vec<Described>) -> Result<()> {
    let failed = RefCell::new(None);
    let view = |described: Described| {
        let shape = described.shape.iter().map(|&size| size.unsigned_abs() as usize).collect();
        (described.name.clone(), Lazy { tensors, described, shape, held: OnceCell::new(), failed: &failed })
    };
    let written = write_views(path, listed.into_iter().map(view));
    if let Some(error) = failed.into_inner() {
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    written
}

/// Writes what is no tensor of libtorch to one file, in the same way.
///
/// # Errors
/// The file cannot be written.
pub fn write_views<S, V>(path: &Path, views: impl IntoIterator<Item = (S, V)>) -> Result<()>
where
    S: AsRef<str> + Ord + std::fmt::Display,
    V: View,
{
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    // It makes paths absolute, and a trainer may not be allowed through the folders above its own. That of a process's
    // folder leads there all the same (`proc_pid_cwd(5)`).
    let passable = Path::new("/proc/self/cwd").join(path);
    let written = safetensors::serialize_to_file(views, Some(metadata), &passable);
    written.map_err(|error| match error {
        SafeTensorError::IoError(error) => EngineError::io(path)(error),
        other => malformed(path, &other),
    })?;
    File::open(path).and_then(|file| file.sync_all()).map_err(EngineError::io(path))
}
