//! What wrappers put before the names of all tensors of a model.

use std::collections::BTreeMap;

/// `DataParallel` and `DistributedDataParallel`, modules that hold a model, and `torch.compile`.
const WRAPPERS: [&str; 3] = ["module.", "model.", "_orig_mod."];

/// What wrappers, one around the other, put before all of these names: `_orig_mod.module.`; nothing where one of them is
/// without it.
pub(super) fn wrapper_of<T>(tensors: &BTreeMap<String, T>) -> String {
    let mut found = String::new();
    let all_begin = |start: &str| !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(start));
    while let Some(wrapped) = WRAPPERS.iter().map(|wrapper| format!("{found}{wrapper}")).find(|start| all_begin(start))
    {
        found = wrapped;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::wrapper_of;

    #[test]
    fn only_what_all_names_begin_with_is_a_wrappers() {
        let of = |names: &[&str]| wrapper_of(&names.iter().map(|&name| (name.to_owned(), ())).collect());
        assert_eq!(of(&["module.bert.a", "module.classifier.b"]), "module.");
        assert_eq!(of(&["_orig_mod.module.bert.a", "_orig_mod.module.bert.b"]), "_orig_mod.module.");
        assert_eq!(of(&["module.bert.a", "classifier.b"]), "");
        assert_eq!(of(&["modules.a"]), "");
        assert_eq!(of(&["net.bert.a"]), "", "it may be another family's name");
        assert_eq!(of(&[]), "");
    }
}
