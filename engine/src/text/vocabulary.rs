//! `tokenizer.json` from what older models have in its place: `vocab.txt`, or `vocab.json` and `merges.txt`. What is built
//! is what Transformers' tokenizer classes build of the same files.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{PostProcessorWrapper, Tokenizer, decoders};

use super::special::{Role, SpecialTokens};
use crate::error::{EngineError, Result};
use finetuned::domain::model::without_mark;

const BUILT: &str = "tokenizer.json";

/// Bytes of the largest file that is read: more than the tables of all models that are built have words for.
const MOST: u64 = 256 << 20;

/// How a class of Transformers makes a tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `WordPiece`, `[CLS]` and `[SEP]` around a text.
    Bert,
    /// `WordPiece` with RoBERTa's special tokens.
    Mpnet,
    /// Byte-level BPE.
    Roberta,
}

const CLASSES: [(&str, Kind); 4] = [
    ("BertTokenizer", Kind::Bert),
    ("DistilBertTokenizer", Kind::Bert),
    ("MPNetTokenizer", Kind::Mpnet),
    ("RobertaTokenizer", Kind::Roberta),
];

/// Builds the `tokenizer.json` of a model that has none, in its folder, if it has the files to build one from; what was
/// done then, for people. `configured` is the class that its `config.json` names, `usual` the one that its family has.
///
/// # Errors
/// The class is none of those that are built, or its files are malformed; the message names them.
pub fn build_missing(directory: &Path, configured: Option<&str>, usual: &str) -> Result<Option<String>> {
    let is_there = |name: &str| directory.join(name).is_file();
    let has_words = is_there("vocab.txt");
    let has_parts = has_words || is_there("vocab.json") && is_there("merges.txt");
    if is_there(BUILT) || !has_parts {
        return Ok(None);
    }
    let special = SpecialTokens::read(directory)?;
    let named = special.text("tokenizer_class").or_else(|| configured.map(str::to_owned));
    let class = named.unwrap_or_else(|| usual.to_owned());
    let class = class.strip_suffix("Fast").unwrap_or(&class);
    let known = CLASSES.iter().find(|(name, kind)| *name == class && (*kind != Kind::Roberta) == has_words);
    let Some(&(_, kind)) = known else {
        let from = if has_words { "vocab.txt" } else { "vocab.json and merges.txt" };
        let built = CLASSES.iter().filter(|(_, kind)| (*kind != Kind::Roberta) == has_words).map(|(name, _)| *name);
        return Err(EngineError::model(format!(
            "the model has no tokenizer.json, and from {from} one is built for {}, not for {class}; Transformers writes one: \
             AutoTokenizer.from_pretrained(FOLDER, use_fast=True).save_pretrained(FOLDER)",
            built.collect::<Vec<_>>().join(", ")
        )));
    };
    let (tokenizer, from) = match kind {
        Kind::Roberta => (bytes(directory, &special)?, "vocab.json and merges.txt".to_owned()),
        Kind::Bert | Kind::Mpnet => words(directory, kind, &special)?,
    };
    let text = tokenizer.to_string(true).map_err(|error| broken("vocab.txt", &error))?;
    let path = directory.join(BUILT);
    fs::write(&path, text).map_err(EngineError::io(&path))?;
    Ok(Some(format!("tokenizer.json was built from {from}, as Transformers' {class} does")))
}

/// `BertTokenizer` and `MPNetTokenizer`, and what they were made from.
fn words(directory: &Path, kind: Kind, special: &SpecialTokens) -> Result<(Tokenizer, String)> {
    const FILE: &str = "vocab.txt";
    let usual: &[(Role, &str)] = match kind {
        Kind::Bert => &[
            (Role::Unknown, "[UNK]"),
            (Role::Separator, "[SEP]"),
            (Role::Padding, "[PAD]"),
            (Role::Class, "[CLS]"),
            (Role::Mask, "[MASK]"),
        ],
        Kind::Mpnet | Kind::Roberta => &[
            (Role::Begin, "<s>"),
            (Role::End, "</s>"),
            (Role::Unknown, "[UNK]"),
            (Role::Separator, "</s>"),
            (Role::Padding, "<pad>"),
            (Role::Class, "<s>"),
            (Role::Mask, "<mask>"),
        ],
    };
    let bytes = read(directory, FILE)?;
    let vocabulary = WordPiece::read_bytes(without_mark(&bytes)).map_err(|error| broken(FILE, &error))?;
    let unknown = special.name(Role::Unknown, usual);
    let model = WordPiece::builder().vocab(vocabulary).unk_token(unknown).build();
    let mut tokenizer = Tokenizer::new(model.map_err(|error| broken(FILE, &error))?);
    let lowers = special.flag("do_lower_case")?;
    let chinese = special.flag("tokenize_chinese_chars")?.unwrap_or(true);
    let normalizer = BertNormalizer::new(true, chinese, special.flag("strip_accents")?, lowers.unwrap_or(true));
    tokenizer.with_normalizer(Some(normalizer)).map_err(|error| broken(FILE, &error))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_decoder(Some(decoders::wordpiece::WordPiece::default()));
    special.require(&tokenizer, &[Role::Unknown, Role::Class, Role::Separator], usual, FILE)?;
    special.add(&mut tokenizer, usual, kind == Kind::Mpnet)?;
    let (class, separator) = (special.name(Role::Class, usual), special.name(Role::Separator, usual));
    let numbered = |token: &str| (token.to_owned(), tokenizer.token_to_id(token).unwrap_or_default());
    let processor = match kind {
        Kind::Bert => framed(numbered(&class), numbered(&separator)).map_err(|error| broken(FILE, &error))?,
        Kind::Mpnet | Kind::Roberta => {
            RobertaProcessing::new(numbered(&separator), numbered(&class)).add_prefix_space(false).into()
        }
    };
    tokenizer.with_post_processor(Some(processor));
    let case = match lowers {
        Some(true) => "in lower case",
        Some(false) => "with upper and lower case",
        None => "in lower case, since tokenizer_config.json does not say do_lower_case",
    };
    Ok((tokenizer, format!("{FILE} ({case})")))
}

/// A text, or two, between a class token and separators, as BERT has them.
fn framed(class: (String, u32), separator: (String, u32)) -> Result<PostProcessorWrapper, String> {
    let single = format!("{}:0 $A:0 {}:0", class.0, separator.0);
    let pair = format!("{single} $B:1 {}:1", separator.0);
    let template = TemplateProcessing::builder()
        .try_single(single)
        .and_then(|builder| builder.try_pair(pair))
        .map(|builder| builder.special_tokens(vec![class, separator]).build());
    Ok(template.map_err(|error| error.clone())?.map_err(|error| error.to_string())?.into())
}

/// `RobertaTokenizer`.
fn bytes(directory: &Path, special: &SpecialTokens) -> Result<Tokenizer> {
    const VOCABULARY: &str = "vocab.json";
    const USUAL: &[(Role, &str)] = &[
        (Role::Begin, "<s>"),
        (Role::End, "</s>"),
        (Role::Unknown, "<unk>"),
        (Role::Separator, "</s>"),
        (Role::Padding, "<pad>"),
        (Role::Class, "<s>"),
        (Role::Mask, "<mask>"),
    ];
    let vocabulary: BTreeMap<String, u32> = serde_json::from_slice(without_mark(&read(directory, VOCABULARY)?))
        .map_err(|error| broken(VOCABULARY, &error))?;
    let merges = merges(&read(directory, "merges.txt")?)?;
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
        "fuse_unk": false, "vocab": vocabulary, "merges": merges,
    });
    let model: BPE = serde_json::from_str(&model.to_string()).map_err(|error| broken("merges.txt", &error))?;
    let mut tokenizer = Tokenizer::new(model);
    let spaces = special.flag("add_prefix_space")?.unwrap_or(false);
    let trims = special.flag("trim_offsets")?.unwrap_or(true);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(spaces)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    special.require(&tokenizer, &[Role::Class, Role::Separator], USUAL, VOCABULARY)?;
    special.add(&mut tokenizer, USUAL, false)?;
    let numbered = |role: Role| {
        let token = special.name(role, USUAL);
        let id = tokenizer.token_to_id(&token).unwrap_or_default();
        (token, id)
    };
    let processor = RobertaProcessing::new(numbered(Role::Separator), numbered(Role::Class));
    tokenizer.with_post_processor(Some(processor.trim_offsets(trims).add_prefix_space(spaces)));
    Ok(tokenizer)
}

/// The pairs of `merges.txt`, most frequent first: one a line, with a space between.
fn merges(bytes: &[u8]) -> Result<Vec<Value>> {
    let text = std::str::from_utf8(without_mark(bytes)).map_err(|_| broken("merges.txt", &"it is not UTF-8"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version") && !line.is_empty());
    let pair = |(number, line): (usize, &str)| match line.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok(json!([left, right])),
        _ => Err(broken("merges.txt", &format!("line {}: must be two tokens with a space between", number + 1))),
    };
    lines.map(pair).collect()
}

fn read(directory: &Path, name: &str) -> Result<Vec<u8>> {
    let path = directory.join(name);
    let bytes = fs::metadata(&path).map_err(EngineError::io(&path))?.len();
    if bytes > MOST {
        return Err(broken(name, &format!("it has more than {MOST} bytes")));
    }
    fs::read(&path).map_err(EngineError::io(&path))
}

fn broken(name: &str, why: &dyn Display) -> EngineError {
    EngineError::model(format!("{name}: {why}"))
}
