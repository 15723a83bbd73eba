//! The tokenizer against Python's, on the same `tokenizer.json`.

use finetuned_engine::text::TextTokenizer;

use super::support::golden_path;

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

#[test]
fn ids_are_those_of_transformers() {
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(golden_path("tokens.json")).unwrap()).unwrap();
    let tokenizer = TextTokenizer::open(&golden_path("tiny-bert"), 64, 120).unwrap();
    let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
    let encoded = tokenizer.encode(&texts.iter().map(|&text| (text, None)).collect::<Vec<_>>()).unwrap();
    for (case, encoded) in cases.iter().zip(&encoded) {
        assert_eq!(encoded.ids, case.ids, "{:?}", case.text);
        assert_eq!(encoded.truncated, case.text.len() > 150, "{:?}", case.text);
    }
}

#[test]
fn a_tokenizer_larger_than_the_vocabulary_is_refused() {
    let Err(error) = TextTokenizer::open(&golden_path("tiny-bert"), 64, 119) else { panic!("it was accepted") };
    assert!(error.to_string().contains("token id 119"), "{error}");
}

#[test]
fn a_missing_or_malformed_tokenizer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let open = || TextTokenizer::open(folder.path(), 64, 120).err().unwrap().to_string();
    assert!(open().contains("no tokenizer.json"));
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert!(open().starts_with("tokenizer.json: "), "{}", open());
}
