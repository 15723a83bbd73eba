//! The tokenizer against Python's, on the same `tokenizer.json`.

use std::path::Path;

use finetuned::domain::random::mix_all;
use finetuned_engine::text::{Encoded, TextTokenizer};
use serde_json::{Value, json};
use tokenizers::{EncodeInput, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

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

/// Tokenizers of all kinds that models have, made of small parts, besides those of the golden models.
fn tokenizers() -> Vec<(&'static str, Value)> {
    let golden = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(golden_path(name).join("tokenizer.json")).unwrap()).unwrap()
    };
    let added = |id: u32, content: &str, strip: bool, is_word: bool| {
        json!({"id": id, "content": content, "single_word": is_word, "lstrip": strip, "rstrip": strip, "normalized": is_word,
            "special": !is_word})
    };
    let pieces = [
        "<unk>",
        "\u{2581}",
        "a",
        "b",
        "ab",
        "aa",
        "aaaa",
        "\u{2581}the",
        "card",
        "\u{2581}card",
        "日",
        "日本",
        "本",
        "e",
        "\u{e9}",
        "!",
        "r",
        "'",
        "re",
        "l",
        "0",
        "12",
        "1",
        "2",
        "\u{2581}\u{2581}",
        "的",
    ];
    let unigram: Vec<Value> =
        pieces.iter().enumerate().map(|(id, piece)| json!([piece, -1.0 - 0.7 * ((id * 13) % 11) as f64])).collect();
    let vocabulary: Value = pieces
        .iter()
        .enumerate()
        .map(|(id, piece)| ((*piece).to_owned(), json!(id)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let ends = json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<unk>", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<unk>", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<unk>": {"id": "<unk>", "ids": [0], "tokens": ["<unk>"]}}});
    let file = |normalizer: Value, pre_tokenizer: Value, added: Vec<Value>, model: Value| {
        json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": ends, "decoder": null, "model": model})
    };
    let metaspace = |split: bool| json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": split});
    let mut stripping = golden("tiny-roberta");
    stripping["added_tokens"][4]["lstrip"] = json!(true);
    stripping["normalizer"] = json!({"type": "NFC"});
    let mut words = golden("tiny-bert");
    words["added_tokens"].as_array_mut().unwrap().push(added(120, "new card", false, true));
    words["added_tokens"].as_array_mut().unwrap().push(added(121, "x-", true, true));
    let spaced = json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace(true)]});
    let folded = json!({"type": "Sequence", "normalizers": [{"type": "NFKC"},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}, {"type": "Strip", "strip_left": true, "strip_right": true}]});
    let merges = json!([["a", "a"], ["aa", "aa"], ["a", "b"], ["日", "本"], ["\u{2581}", "\u{2581}"]]);
    vec![
        ("WordPiece", golden("tiny-bert")),
        ("WordPiece with added words", words),
        ("byte-level BPE", golden("tiny-roberta")),
        ("byte-level BPE that composes", stripping),
        (
            "Unigram",
            file(
                folded,
                spaced.clone(),
                vec![added(0, "<unk>", false, false)],
                json!({"type": "Unigram", "unk_id": 0, "vocab": unigram, "byte_fallback": false}),
            ),
        ),
        (
            "Unigram of whole texts",
            file(
                json!({"type": "NFD"}),
                metaspace(false),
                vec![],
                json!({"type": "Unigram", "unk_id": 0, "vocab": unigram, "byte_fallback": false}),
            ),
        ),
        (
            "BPE",
            file(
                json!({"type": "Lowercase"}),
                metaspace(false),
                vec![added(0, "<unk>", true, false)],
                json!({"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "vocab": vocabulary, "merges": merges}),
            ),
        ),
        (
            "BPE of unknown look-ahead",
            file(
                Value::Null,
                json!({"type": "Split", "pattern": {"Regex": "a+(?=b)|."},
            "behavior": "Isolated", "invert": false}),
                vec![],
                json!({"type": "BPE", "unk_token": "<unk>", "vocab": vocabulary, "merges": merges}),
            ),
        ),
    ]
}

/// What the tokenizer itself makes of a text that is not cut.
fn whole(tokenizer: &Tokenizer, text: &str, pair: Option<&str>, words: bool) -> Encoded {
    let input = |text: &str, pair: Option<&str>| -> EncodeInput<'static> {
        match pair {
            Some(pair) => EncodeInput::Dual(text.to_owned().into(), pair.to_owned().into()),
            None => EncodeInput::Single(text.to_owned().into()),
        }
    };
    let encoding = tokenizer.encode(input(text, pair), true).unwrap();
    let mut untruncated = tokenizer.clone();
    untruncated.with_truncation(None).unwrap();
    let all = untruncated.encode_fast(input(text, pair), true).unwrap().len();
    let ids = encoding.get_ids().to_vec();
    let special = encoding.get_special_tokens_mask();
    let word = |place: usize| match encoding.get_word_ids()[place] {
        _ if special[place] > 0 => 0,
        Some(word) if words => word + 1,
        _ => place as u32 + 1,
    };
    Encoded {
        second: encoding.get_type_ids().iter().position(|&kind| kind > 0).unwrap_or(ids.len()),
        words: (0..ids.len()).map(word).collect(),
        truncated: all > ids.len(),
        ids,
    }
}

/// A text of `pieces` pieces of a few kinds, drawn from `seed`.
fn drawn(seed: u64, pieces: usize) -> String {
    let marks = "e\u{323}\u{302}\u{301}".to_owned() + &"\u{323}".repeat(150) + "\u{302}";
    let (long, letters) = ("a".repeat(700), "Ä".repeat(90));
    let kinds = [
        "the ",
        "card",
        "new card",
        " new\u{a0}",
        "a",
        "aab",
        "日本",
        "的",
        "。",
        "!",
        "...",
        "'re",
        "'ll ",
        " '",
        "[MASK]",
        "<mask>",
        "  <mask> ",
        "[UN",
        "K]",
        "<unk>",
        "\n",
        "\r\n",
        "   ",
        "\t",
        "\u{3000}",
        "\u{a0}",
        "\u{85}",
        "\u{200d}",
        "👩\u{200d}👩",
        "😀",
        "🇩🇪",
        "é",
        "e\u{301}",
        "ﬁ",
        "①",
        "½",
        "0",
        "12",
        "x-",
        "ｶﾞ",
        "が",
        "か\u{3099}",
        "각",
        "ᄀ",
        "ᅡ",
        "क्",
        "ि",
        "ก",
        "\u{fffd}",
        "\u{600}",
        "Σ",
        &marks,
        &long,
        &letters,
    ];
    let draw = |place: usize, below: usize| (mix_all(&[seed, place as u64]) % below as u64) as usize;
    // Often of one or two kinds alone, which gives words without end.
    let variety = [1, 2, 3, kinds.len()][draw(0, 4)];
    let chosen: Vec<&str> = (0..variety).map(|i| kinds[draw(1 + i, kinds.len())]).collect();
    let most = if chosen.iter().any(|piece| piece.len() > 100) { 12 } else { pieces };
    (0..most).map(|i| chosen[draw(1000 + i, chosen.len())]).collect()
}

fn truncating(file: &Path, max_tokens: usize) -> Tokenizer {
    let mut tokenizer = Tokenizer::from_file(file).unwrap();
    let (direction, strategy) = (TruncationDirection::Right, TruncationStrategy::LongestFirst);
    let truncation = TruncationParams { direction, max_length: max_tokens, strategy, stride: 0 };
    tokenizer.with_truncation(Some(truncation)).unwrap();
    tokenizer
}

#[test]
fn the_tokens_that_are_kept_of_a_long_text_are_those_of_the_whole_text() {
    for (name, json) in tokenizers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.json");
        std::fs::write(&file, json.to_string()).unwrap();
        for (max_tokens, words) in [(8, false), (17, true)] {
            let expected = truncating(&file, max_tokens);
            let tokenizer = TextTokenizer::open(folder.path(), max_tokens, 1000).unwrap();
            let tokenizer = if words { tokenizer.with_words() } else { tokenizer };
            let texts: Vec<String> = (0..40).map(|seed| drawn(seed * 31 + max_tokens as u64, 400)).collect();
            let pairs: Vec<(&str, Option<&str>)> = texts
                .iter()
                .zip(texts.iter().skip(1))
                .enumerate()
                .map(|(i, (text, next))| (text.as_str(), (i % 3 == 0).then_some(next.as_str())))
                .collect();
            for (&(text, pair), encoded) in pairs.iter().zip(tokenizer.encode(&pairs).unwrap()) {
                let start: String = text.chars().take(60).collect();
                assert_eq!(encoded, whole(&expected, text, pair, words), "{name}, {max_tokens} tokens: {start:?}");
            }
        }
    }
}

#[test]
fn a_long_text_takes_no_more_memory_than_what_is_kept_of_it() {
    let peak = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    };
    let megabytes = |piece: &str| piece.repeat((4 << 20) / piece.len());
    let floods = [
        megabytes("the new card "),
        megabytes("a"),
        megabytes("日本"),
        megabytes("the\n"),
        megabytes("!"),
        megabytes("😀"),
        // Spellings of special tokens, which do not stop the tokenizer, and what normalizers leave out.
        megabytes("[SEP] "),
        megabytes("[MASK]"),
        megabytes("<mask> "),
        megabytes("\u{301}"),
        megabytes("\u{200b}"),
        megabytes("\u{7f}"),
        // What normalizers change, and what they may change together with what stands beside it.
        megabytes("①"),
        megabytes("—"),
        megabytes("🇩🇪"),
        megabytes("\u{600}"),
        megabytes("ᄀ"),
        megabytes("\u{3000}"),
    ];
    for model in ["tiny-bert", "tiny-roberta"] {
        let tokenizer = TextTokenizer::open(&golden_path(model), 64, 1000).unwrap();
        let before = peak();
        for text in &floods {
            for pair in [None, Some("the card"), Some(text.as_str())] {
                let encoded = tokenizer.encode(&[(text, pair)]).unwrap();
                // A word of which nothing is known is one token.
                assert!(encoded[0].truncated || encoded[0].ids.len() < 10, "{model}");
            }
        }
        let grown = peak() - before;
        // Read whole, a text of 4 MiB takes more than half a gigabyte.
        assert!(grown < 100, "{model} took {grown} MiB");
    }
}
