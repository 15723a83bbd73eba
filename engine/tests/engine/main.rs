//! The engine against PyTorch, Transformers and itself.
//!
//! Golden values come from the scripts in `tests/golden/`. `FINETUNED_TEST_DEVICE=cuda` runs the tests on a GPU; what they
//! compare with stays the same, and `support::Tolerance` says how close each precision must come.

#![allow(
    clippy::type_complexity,
    clippy::assigning_clones,
    clippy::format_push_string,
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::format_collect,
    clippy::float_cmp,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are shared by module"
)]

mod adapted_weights;
mod adapters;
mod causal_kernels;
mod chat_random;
mod chat_spans;
mod chat_templates;
mod checks;
mod computed_again;
mod configs;
mod examples;
mod exports;
mod generation;
mod images;
mod kernels;
mod language_models;
mod model;
mod nf4;
mod optimizer;
mod sentences;
mod shared_base;
mod support;
mod text_families;
mod tokens;
mod training;
mod vision_models;
mod vocabularies;
mod weights;
