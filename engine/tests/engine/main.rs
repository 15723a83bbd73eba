//! The engine against PyTorch, Transformers and itself.
//!
//! Golden values come from `tests/golden/make.py`. FINETUNED_TEST_DEVICE=cuda runs the tests on a GPU; what they
//! compare with stays the same, and `support::Tolerance` says how close each precision must come.

mod kernels;
mod model;
mod optimizer;
mod support;
mod tokens;
mod training;
mod weights;
