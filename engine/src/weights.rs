//! Reading and writing `safetensors` files (the only weight format that is accepted).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Kind, Tensor};

use crate::error::{EngineError, Result};

/// The tensors of a model directory: `model.safetensors`, or the shards its index names.
///
/// Base checkpoints omit the prefix that task models put before the encoder (`bert.`), and old ones say `gamma` and
/// `beta` for a norm's weight and bias; both are found under the names in use today, as in Transformers.
pub struct Weights {
    files: Vec<(PathBuf, Mmap)>,
    /// Name as asked for -> (file, name in the file).
    names: BTreeMap<String, (usize, String)>,
}

impl Weights {
    /// Opens the weights in `directory` of a model whose task models prefix the encoder with `prefix`.
    ///
    /// # Errors
    /// No safetensors file is there, or one is malformed.
    pub fn open(directory: &Path, prefix: &str) -> Result<Self> {
        Self::open_renamed(directory, prefix, |_, name| name.to_owned())
    }

    /// As [`open`](Self::open), after calling each tensor what `rename` makes of its name in the files; `rename` is
    /// given all names, to see whose they are.
    pub fn open_renamed(
        directory: &Path,
        prefix: &str,
        rename: impl Fn(&BTreeSet<String>, &str) -> String,
    ) -> Result<Self> {
        let mut weights = Self { files: Vec::new(), names: BTreeMap::new() };
        for path in weight_files(directory)? {
            weights.add_file(path)?;
        }
        let all: BTreeSet<String> = weights.names.keys().cloned().collect();
        weights.names =
            std::mem::take(&mut weights.names).into_iter().map(|(name, place)| (rename(&all, &name), place)).collect();
        weights.normalise(prefix);
        Ok(weights)
    }

    /// Opens one file, with its names as they are.
    pub fn open_file(path: &Path) -> Result<Self> {
        let mut weights = Self { files: Vec::new(), names: BTreeMap::new() };
        weights.add_file(path.to_owned())?;
        Ok(weights)
    }

    fn add_file(&mut self, path: PathBuf) -> Result<()> {
        let file = File::open(&path).map_err(EngineError::io(&path))?;
        // SAFETY: the files lie in the run's own directory, which nothing else writes to.
        let map = unsafe { Mmap::map(&file) }.map_err(EngineError::io(&path))?;
        let tensors = parse(&path, &map)?;
        for name in tensors.names() {
            self.names.insert(name.to_owned(), (self.files.len(), name.to_owned()));
        }
        self.files.push((path, map));
        Ok(())
    }

    fn normalise(&mut self, prefix: &str) {
        let dotted = format!("{prefix}.");
        let prefixed = self.names.keys().any(|name| name.starts_with(&dotted));
        self.names = std::mem::take(&mut self.names)
            .into_iter()
            .map(|(name, place)| {
                let name = if prefixed { name } else { format!("{dotted}{name}") };
                let name = match name.rsplit_once('.') {
                    Some((layer, "gamma")) => format!("{layer}.weight"),
                    Some((layer, "beta")) => format!("{layer}.bias"),
                    _ => name,
                };
                (name, place)
            })
            .collect();
    }

    /// Whether a tensor of this name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// The names that are not in `known` (sorted).
    pub fn names_other_than(&self, known: &[&str]) -> Vec<String> {
        let known: BTreeSet<&str> = known.iter().copied().collect();
        self.names.keys().filter(|name| !known.contains(name.as_str())).cloned().collect()
    }

    /// The tensor called `name` in float32 on the CPU, whatever its shape.
    ///
    /// # Errors
    /// It is missing, or of a type other than float32, float16 and bfloat16.
    pub fn load_any(&self, name: &str) -> Result<Tensor> {
        let (file, stored) =
            self.names.get(name).ok_or_else(|| EngineError::model(format!("the model has no tensor {name}")))?;
        let (path, map) = &self.files[*file];
        let view = parse(path, map)?.tensor(stored).map_err(|error| malformed(path, &error))?;
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        self.load(name, &shape)
    }

    /// The tensor called `name` in float32 on the CPU.
    ///
    /// # Errors
    /// It is missing, has another shape than `shape`, or is of a type other than float32, float16 and bfloat16.
    pub fn load(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.load_as(name, shape, Kind::Float)
    }

    /// The tensor called `name` on the CPU in `kind`: float32 from any type of floats, or int64 from int64.
    ///
    /// # Errors
    /// It is missing, has another shape than `shape`, or is of another type.
    pub fn load_as(&self, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor> {
        let (file, stored) =
            self.names.get(name).ok_or_else(|| EngineError::model(format!("the model has no tensor {name}")))?;
        let (path, map) = &self.files[*file];
        let tensors = parse(path, map)?;
        let view = tensors.tensor(stored).map_err(|error| malformed(path, &error))?;
        let found: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        if found != shape {
            return Err(EngineError::model(format!("tensor {name} has shape {found:?} where {shape:?} is expected")));
        }
        let (stored, allowed) = match kind {
            Kind::Int64 => ((view.dtype() == Dtype::I64).then_some(Kind::Int64), "int64"),
            _ => (kind_of(view.dtype()), "float32, float16 or bfloat16"),
        };
        let stored = stored
            .ok_or_else(|| EngineError::model(format!("tensor {name} has type {:?}; use {allowed}", view.dtype())))?;
        // The crate has checked that the data's length is that of shape and type.
        Ok(Tensor::f_from_data_size(view.data(), shape, stored)?.f_to_kind(kind)?)
    }
}

/// `model.safetensors.index.json`: which shard holds which tensor.
#[derive(serde::Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

fn weight_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let single = directory.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = directory.join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index)
        .map_err(|_| EngineError::model("the model has neither model.safetensors nor model.safetensors.index.json"))?;
    let index: ShardIndex = serde_json::from_str(&text)
        .map_err(|error| EngineError::model(format!("model.safetensors.index.json: {error}")))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(odd) = shards.iter().find(|shard| shard.contains('/') || !shard.ends_with(".safetensors")) {
        return Err(EngineError::model(format!("model.safetensors.index.json names the shard {odd:?}")));
    }
    Ok(shards.into_iter().map(|shard| directory.join(shard)).collect())
}

fn parse<'a>(path: &Path, map: &'a Mmap) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(map).map_err(|error| malformed(path, &error))
}

fn malformed(path: &Path, error: &SafeTensorError) -> EngineError {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    EngineError::model(format!("{name} is no valid safetensors file: {error}"))
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

/// Writes tensors to `path`, int64 as they are and all others in float32, with the metadata that Transformers expects
/// (`format: pt`).
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let mut buffers = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let (kind, dtype) =
            if tensor.kind() == Kind::Int64 { (Kind::Int64, Dtype::I64) } else { (Kind::Float, Dtype::F32) };
        let tensor = tensor.f_detach()?.f_to_device(tch::Device::Cpu)?.f_to_kind(kind)?.f_contiguous()?;
        let shape: Vec<usize> = tensor.size().iter().map(|&size| size.unsigned_abs() as usize).collect();
        buffers.push((name.as_str(), shape, dtype, tensor));
    }
    let mut views = Vec::with_capacity(buffers.len());
    for (name, shape, dtype, tensor) in &buffers {
        let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
        // SAFETY: a contiguous CPU tensor of so many bytes that lives in `buffers` until the file is written.
        let bytes = unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), length) };
        let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(|error| malformed(path, &error))?;
        views.push((*name, view));
    }
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    // It makes paths absolute, and a trainer may not be allowed through the folders above its own. That of a process's
    // folder leads there all the same (`proc_pid_cwd(5)`).
    let passable = Path::new("/proc/self/cwd").join(path);
    safetensors::serialize_to_file(views, Some(metadata), &passable).map_err(|error| match error {
        SafeTensorError::IoError(error) => EngineError::io(path)(error),
        other => malformed(path, &other),
    })?;
    File::open(path).and_then(|file| file.sync_all()).map_err(EngineError::io(path))
}
