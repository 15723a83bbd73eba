//! Reading `safetensors` files (the only weight format that is accepted).

mod adapted;
mod files;
mod wrapper;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::{Mmap, UncheckedAdvice};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

pub use adapted::{ADAPTED_PREFIX, Upon, adapter_in, adapter_upon, ground_of};
pub use write::{Described, Tensors, write, write_listed, write_views};

use self::adapted::Delta;
use self::files::weight_files;
use self::wrapper::wrapper_of;
use crate::error::{EngineError, Result};

/// The tensors of a model directory: `model.safetensors`, or the shards its index names.
///
/// A checkpoint of a run that trained adapters has `adapter/` and its base model's weights in `base/` instead.
///
/// Base checkpoints omit the prefix that task models put before the encoder (`bert.`), and old ones say `gamma` and
/// `beta` for a norm's weight and bias; both are found under the names in use today, as in Transformers.
#[derive(Clone)]
pub struct Weights {
    files: Vec<Arc<Mmap>>,
    /// By the names that are asked for.
    stored: BTreeMap<String, Stored>,
    /// What adapters add to tensors, in the order in which they were trained.
    deltas: BTreeMap<String, Vec<Delta>>,
    /// The file of the adapter that was trained last, if there is one.
    adapter: Option<usize>,
    /// What wrappers put before all names in the files.
    wrapper: String,
    /// Whether values are left out.
    is_outline: bool,
}

/// A tensor as it lies in a file.
#[derive(Clone)]
struct Stored {
    file: usize,
    /// Its name there.
    name: String,
    dtype: Dtype,
    shape: Vec<i64>,
    /// Where its values are in the file, in bytes.
    data: Range<usize>,
    /// Whether it came with an adapter.
    is_added: bool,
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
        Self::open_any(directory, prefix, &rename)
    }

    fn open_any(directory: &Path, prefix: &str, rename: &dyn Fn(&BTreeSet<String>, &str) -> String) -> Result<Self> {
        if adapted::is_adapted(directory) {
            return Self::open_adapted(&ground_of(directory), directory, prefix, rename);
        }
        let mut weights = Self::empty();
        for path in weight_files(directory)? {
            weights.add_file(&path)?;
        }
        weights.called(prefix, rename);
        Ok(weights)
    }

    fn empty() -> Self {
        Self {
            files: Vec::new(),
            stored: BTreeMap::new(),
            deltas: BTreeMap::new(),
            adapter: None,
            wrapper: String::new(),
            is_outline: false,
        }
    }

    /// Calls each tensor by the name in use today.
    fn called(&mut self, prefix: &str, rename: &dyn Fn(&BTreeSet<String>, &str) -> String) {
        let wrapper = wrapper_of(&self.stored);
        self.rename(|name| name.strip_prefix(&wrapper).unwrap_or(name).to_owned());
        // A family's own prefix is no wrapper's, though it may be called like one.
        wrapper.strip_suffix(&format!("{prefix}.")).unwrap_or(&wrapper).clone_into(&mut self.wrapper);
        let all: BTreeSet<String> = self.stored.keys().cloned().collect();
        self.rename(|name| rename(&all, name));
        self.normalise(prefix);
    }

    fn rename(&mut self, rename: impl Fn(&str) -> String) {
        let stored = std::mem::take(&mut self.stored);
        self.stored = stored.into_iter().map(|(name, stored)| (rename(&name), stored)).collect();
    }

    /// Opens one file, with its names as they are.
    pub fn open_file(path: &Path) -> Result<Self> {
        let mut weights = Self::empty();
        weights.add_file(path)?;
        Ok(weights)
    }

    /// The same tensors without their values: names, shapes and types are checked as ever, and nothing is read.
    #[must_use]
    pub fn outline(self) -> Self {
        Self { is_outline: true, ..self }
    }

    /// What wrappers put before all names in the files, which is left out here: `module.`; empty without one.
    pub fn wrapper(&self) -> &str {
        &self.wrapper
    }

    /// Whether values are left out.
    pub fn is_outline(&self) -> bool {
        self.is_outline
    }

    /// The number of values in all tensors.
    pub fn values(&self) -> u64 {
        let count = |shape: &[i64]| shape.iter().map(|size| size.unsigned_abs()).product::<u64>();
        self.stored.values().map(|stored| count(&stored.shape)).sum()
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(EngineError::io(path))?;
        // SAFETY: the files lie in the run's own directory, which nothing else writes to.
        let map = unsafe { Mmap::map(&file) }.map_err(EngineError::io(path))?;
        let tensors = SafeTensors::deserialize(&map).map_err(|error| malformed(path, &error))?;
        for (name, view) in tensors.iter() {
            let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
            let stored = Stored {
                file: self.files.len(),
                name: name.to_owned(),
                dtype: view.dtype(),
                shape: view.shape().iter().map(|&size| size as i64).collect(),
                data: start..start + view.data().len(),
                is_added: false,
            };
            self.stored.insert(name.to_owned(), stored);
        }
        self.files.push(Arc::new(map));
        Ok(())
    }

    fn normalise(&mut self, prefix: &str) {
        let dotted = format!("{prefix}.");
        let is_prefixed = self.stored.keys().any(|name| name.starts_with(&dotted));
        self.rename(|name| {
            let name = if is_prefixed { name.to_owned() } else { format!("{dotted}{name}") };
            match name.rsplit_once('.') {
                Some((layer, "gamma")) => format!("{layer}.weight"),
                Some((layer, "beta")) => format!("{layer}.bias"),
                _ => name,
            }
        });
    }

    /// Whether a tensor of this name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.stored.contains_key(name)
    }

    /// The names that are not in `known` (sorted).
    pub fn names_other_than(&self, known: &[&str]) -> Vec<String> {
        let known: BTreeSet<&str> = known.iter().copied().collect();
        self.stored.keys().filter(|name| !known.contains(name.as_str())).cloned().collect()
    }

    /// The tensor called `name` in float32 on the CPU.
    ///
    /// # Errors
    /// It is missing, has another shape than `shape`, or is of a type other than float32, float16 and bfloat16.
    pub fn load(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.load_as(name, shape, Kind::Float)
    }

    /// The tensor called `name` on the CPU in `kind`: float32 from any type of floats, or int64 or uint8 from the same.
    ///
    /// # Errors
    /// It is missing, has another shape than `shape`, or is of another type.
    pub fn load_as(&self, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor> {
        let found = self.find(name)?;
        if found.shape != shape {
            let message = format!("tensor {name} has shape {:?} where {shape:?} is expected", found.shape);
            return Err(EngineError::model(message));
        }
        let tensor = self.read(name, found, kind)?;
        if self.is_outline { Ok(tensor) } else { self.adapted(name, tensor) }
    }

    /// What lies in a file as the tensor called `name`, in `kind`.
    fn read(&self, name: &str, found: &Stored, kind: Kind) -> Result<Tensor> {
        let (stored, allowed) = match kind {
            Kind::Int64 => ((found.dtype == Dtype::I64).then_some(Kind::Int64), "int64"),
            Kind::Uint8 => ((found.dtype == Dtype::U8).then_some(Kind::Uint8), "uint8"),
            _ => (kind_of(found.dtype), "float32, float16 or bfloat16"),
        };
        let stored = stored.ok_or_else(|| {
            let message = format!("tensor {name} has type {:?}; use {allowed}", found.dtype);
            EngineError::model(message)
        })?;
        if self.is_outline {
            return Ok(Tensor::f_empty(&found.shape, (kind, Device::Cpu))?);
        }
        let map = &self.files[found.file];
        // The library has checked that the data's length is that of shape and type.
        let tensor = Tensor::f_from_data_size(&map[found.data.clone()], &found.shape, stored)?.f_to_kind(kind)?;
        // What was read of the file would count as this process's memory.
        // SAFETY: the map is of a file that nothing writes to, so its pages come back as they were.
        let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, found.data.start, found.data.len()) };
        Ok(tensor)
    }

    /// The type of the tensor called `name`, if it is one of floats.
    pub fn kind_of(&self, name: &str) -> Option<Kind> {
        self.stored.get(name).and_then(|stored| kind_of(stored.dtype))
    }

    /// The shape of the tensor called `name`.
    ///
    /// # Errors
    /// It is missing.
    pub fn shape(&self, name: &str) -> Result<Vec<i64>> {
        Ok(self.find(name)?.shape.clone())
    }

    /// The type that all its floats have, those of adapters aside; float32 where they have several.
    pub fn kind(&self) -> Kind {
        let own = self.stored.values().filter(|stored| !stored.is_added);
        let mut kinds = own.filter_map(|stored| kind_of(stored.dtype));
        let first = kinds.next().unwrap_or(Kind::Float);
        if kinds.all(|kind| kind == first) { first } else { Kind::Float }
    }

    fn find(&self, name: &str) -> Result<&Stored> {
        self.stored.get(name).ok_or_else(|| self.missing(name))
    }

    /// The error for a tensor that is not there. Wrappers put a name of their own before all others; where one did, it is
    /// named.
    fn missing(&self, name: &str) -> EngineError {
        let bare = name.split_once('.').map_or(name, |(_, rest)| rest);
        let of = |stored: &str| {
            let prefix = stored.strip_suffix(name).or_else(|| stored.strip_suffix(bare))?;
            prefix.ends_with('.').then(|| prefix.to_owned())
        };
        let wrapped = self.stored.values().find_map(|stored| Some((&stored.name, of(&stored.name)?)));
        EngineError::model(match wrapped {
            Some((stored, prefix)) => format!(
                "the model has no tensor {name}, but {stored}: a wrapper put \"{prefix}\" before its names. Save the model \
                 that is wrapped, as with model.module.save_pretrained, or take the prefix away"
            ),
            None => format!("the model has no tensor {name}"),
        })
    }
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
