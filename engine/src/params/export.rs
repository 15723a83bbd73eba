//! A model as it is saved: what training changed, and the rest from the base model, tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};

use tch::{Kind, Tensor};

use super::{AdaptedLayer, ParamTable};
use crate::error::{EngineError, Result};
use crate::weights::{Described, Tensors, Weights};

/// Tensors by the names that they are saved under. Of those that training did not change no values are held.
pub struct Export {
    entries: BTreeMap<String, (Vec<i64>, Entry)>,
    base: Weights,
    /// The type of floats: that of the base model.
    kind: Kind,
}

enum Entry {
    /// Float32, or int64 for counters.
    Value(Tensor),
    /// As the base model has it, under this name.
    Base(String),
    /// That and what an adapter adds: `scaling · B A`, or its transpose.
    Merged { name: String, a: Tensor, b: Tensor, scaling: f64, is_transposed: bool },
}

impl Export {
    pub(super) fn new(table: &ParamTable, trained: &BTreeMap<String, Tensor>) -> Result<Self> {
        let value = |name: &str| {
            let found = trained.get(name).map(Tensor::shallow_clone);
            found.ok_or_else(|| EngineError::native(format!("there is no value of {name}")))
        };
        let matrix = |module: &str, which: &str| format!("{module}.lora_{which}.weight");
        let matrices: BTreeSet<String> =
            table.adapted_modules().flat_map(|module| [matrix(module, "A"), matrix(module, "B")]).collect();
        let mut entries = BTreeMap::new();
        for (name, tensor) in trained.iter().filter(|(name, _)| !matrices.contains(*name)) {
            entries.insert(name.clone(), (tensor.size(), Entry::Value(tensor.shallow_clone())));
        }
        for (name, shape, fresh) in table.frozen.iter().flat_map(|frozen| &frozen.parts) {
            let entry = match fresh {
                Some(values) => Entry::Value(values.shallow_clone()),
                None => Entry::Base(name.clone()),
            };
            entries.insert(name.clone(), (shape.clone(), entry));
        }
        for adapter in &table.adapters {
            let (a, b) = (value(&matrix(&adapter.module, "A"))?, value(&matrix(&adapter.module, "B"))?);
            let name = format!("{}.weight", adapter.module);
            if let Some((_, entry)) = entries.get_mut(&name) {
                let AdaptedLayer { scaling, is_transposed, .. } = *adapter;
                *entry = Entry::Merged { name, a, b, scaling, is_transposed };
            }
        }
        Ok(Self { entries, base: table.base.clone(), kind: table.base.kind() })
    }

    /// Every tensor at once: float32, or int64 for counters.
    ///
    /// # Errors
    /// A tensor of the base model cannot be read any more.
    pub fn all(&self) -> Result<BTreeMap<String, Tensor>> {
        self.entries.keys().map(|name| Ok((name.clone(), self.tensor(name)?))).collect()
    }

    /// The type of floats that it is saved in.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same tensors by other names, with tensors of the base model beside them that the model itself does not use.
    ///
    /// # Errors
    /// One of these is not there.
    pub fn renamed(self, carried: &[String], rename: impl Fn(&str) -> String) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for name in carried {
            entries.insert(rename(name), (self.base.shape(name)?, Entry::Base(name.clone())));
        }
        entries.extend(self.entries.into_iter().map(|(name, entry)| (rename(&name), entry)));
        Ok(Self { entries, ..self })
    }
}

impl Tensors for Export {
    fn list(&self) -> Vec<Described> {
        let described = |(name, (shape, entry)): (&String, &(Vec<i64>, Entry))| {
            let kind = match entry {
                Entry::Value(value) if value.kind() == Kind::Int64 => Kind::Int64,
                _ => self.kind,
            };
            Described { name: name.clone(), shape: shape.clone(), kind }
        };
        self.entries.iter().map(described).collect()
    }

    fn holds(&self, name: &str) -> bool {
        matches!(self.entries.get(name), Some((_, Entry::Value(_))))
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let missing = || EngineError::native(format!("there is no tensor {name}"));
        let (shape, entry) = self.entries.get(name).ok_or_else(missing)?;
        match entry {
            Entry::Value(value) => Ok(value.shallow_clone()),
            Entry::Base(name) => self.base.load(name, shape),
            Entry::Merged { name, a, b, scaling, is_transposed } => {
                let product = b.f_matmul(a)?.f_mul_scalar(*scaling)?;
                let product = if *is_transposed { product.f_transpose(0, 1)? } else { product };
                Ok(self.base.load(name, shape)?.f_add(&product)?)
            }
        }
    }
}
