//! Model families, each from its own `config.json` and under its own Hugging Face names.

pub mod text;
pub mod vision;
