//! Special and added tokens of a model without `tokenizer.json`, as Transformers reads them from `tokenizer_config.json`,
//! `special_tokens_map.json` and `added_tokens.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{EngineError, Result};
use finetuned::domain::model::without_mark;

/// What a special token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Begin,
    End,
    Unknown,
    Separator,
    Padding,
    Class,
    Mask,
}

impl Role {
    /// Its field in the files.
    fn field(self) -> &'static str {
        match self {
            Self::Begin => "bos_token",
            Self::End => "eos_token",
            Self::Unknown => "unk_token",
            Self::Separator => "sep_token",
            Self::Padding => "pad_token",
            Self::Class => "cls_token",
            Self::Mask => "mask_token",
        }
    }
}

/// What the files say.
pub(super) struct SpecialTokens {
    /// The fields of `tokenizer_config.json`, and over them those of `special_tokens_map.json` where these count.
    fields: Map<String, Value>,
    /// Tokens that were added to the vocabulary, by id.
    added: BTreeMap<u64, AddedToken>,
}

const CONFIG: &str = "tokenizer_config.json";
/// The field of special tokens without a role.
const FURTHER: &str = "extra_special_tokens";

impl SpecialTokens {
    /// Reads the files that are there.
    ///
    /// # Errors
    /// One is no JSON object, or holds what is no token.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let mut fields = object(directory, CONFIG)?;
        let mut added = BTreeMap::new();
        if let Some(further) = fields.remove("additional_special_tokens") {
            fields.entry(FURTHER).or_insert(further);
        }
        // Newer versions write all that there is to say of added tokens into the configuration.
        if let Some(Value::Object(tokens)) = fields.remove("added_tokens_decoder") {
            for (id, token) in &tokens {
                let number =
                    id.parse().map_err(|_| EngineError::model(format!("{CONFIG}: \"{id}\" is no token id")))?;
                added.insert(number, token_of(token, false, CONFIG)?);
            }
            return Ok(Self { fields, added });
        }
        fields.extend(object(directory, "special_tokens_map.json")?);
        let mut read = Self { fields, added };
        let further = read.fields.get(FURTHER).and_then(Value::as_array).into_iter().flatten().filter_map(content_of);
        let special: Vec<String> = read.named().into_iter().chain(further).collect();
        for (content, id) in object(directory, "added_tokens.json")? {
            let wrong = || EngineError::model(format!("added_tokens.json: the id of \"{content}\" is {id}"));
            let id = id.as_u64().ok_or_else(wrong)?;
            let is_special = special.contains(&content);
            read.added.insert(id, AddedToken::from(content, is_special));
        }
        Ok(read)
    }

    /// A field that is a text.
    pub(super) fn text(&self, field: &str) -> Option<String> {
        self.fields.get(field).and_then(Value::as_str).map(str::to_owned)
    }

    /// A field that is true or false; None if it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn flag(&self, field: &str) -> Result<Option<bool>> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(EngineError::model(format!("{CONFIG}: {field} is {other}; supported: true, false"))),
        }
    }

    /// The token in this role: that of the files, else the usual one.
    pub(super) fn name(&self, role: Role, usual: &[(Role, &str)]) -> String {
        let given = self.fields.get(role.field()).and_then(content_of);
        let usual = || usual.iter().find(|(known, _)| *known == role).map(|(_, token)| (*token).to_owned());
        given.or_else(usual).unwrap_or_default()
    }

    /// Refuses a vocabulary without the tokens in these roles.
    ///
    /// # Errors
    /// One is missing.
    pub(super) fn require(
        &self,
        tokenizer: &Tokenizer,
        roles: &[Role],
        usual: &[(Role, &str)],
        file: &str,
    ) -> Result<()> {
        for &role in roles {
            let token = self.name(role, usual);
            if tokenizer.token_to_id(&token).is_none() {
                let message = format!(
                    "{file} has no \"{token}\", which is the {}; name the right one in {CONFIG}, or fetch the file that \
                     belongs to the model",
                    role.field()
                );
                return Err(EngineError::model(message));
            }
        }
        Ok(())
    }

    /// Adds all tokens in the order that gives them their ids. A usual token that no file names is left out where the
    /// vocabulary does not have it. `strips` is for masks that take the space before them along.
    ///
    /// # Errors
    /// A token is malformed.
    pub(super) fn add(&self, tokenizer: &mut Tokenizer, usual: &[(Role, &str)], strips: bool) -> Result<()> {
        let named: Vec<String> = usual.iter().map(|(role, _)| self.name(*role, usual)).collect();
        let mut tokens: Vec<AddedToken> = self.added.values().cloned().collect();
        for (&(role, _), name) in usual.iter().zip(&named) {
            let given = self.fields.get(role.field()).filter(|value| !value.is_null());
            if given.is_none() && tokenizer.token_to_id(name).is_none() {
                continue;
            }
            let token = match given {
                Some(given @ Value::Object(_)) => token_of(given, true, CONFIG)?,
                _ => AddedToken::from(name.as_str(), true).lstrip(strips && role == Role::Mask),
            };
            push_new(&mut tokens, token);
        }
        for token in self.further()? {
            push_new(&mut tokens, token);
        }
        for token in &mut tokens {
            token.special |= named.contains(&token.content);
        }
        let added = tokenizer.add_tokens(tokens);
        added.map(drop).map_err(|error| EngineError::model(format!("{CONFIG}: {error}")))
    }

    /// The tokens in all roles that the files name.
    fn named(&self) -> Vec<String> {
        let roles = self.fields.iter().filter(|(field, _)| field.ends_with("_token"));
        roles.filter_map(|(_, value)| content_of(value)).collect()
    }

    /// Special tokens without a role.
    fn further(&self) -> Result<Vec<AddedToken>> {
        let fields = [FURTHER, "additional_special_tokens"];
        let lists = fields.iter().find_map(|field| self.fields.get(*field).and_then(Value::as_array));
        lists.into_iter().flatten().map(|token| token_of(token, true, CONFIG)).collect()
    }
}

fn push_new(tokens: &mut Vec<AddedToken>, token: AddedToken) {
    if tokens.iter().all(|known| known.content != token.content) {
        tokens.push(token);
    }
}

/// What a token says, which stands there as it is or as an object.
fn content_of(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

/// A token as the files write it; normalised unless it is special or they say so.
fn token_of(value: &Value, is_special: bool, file: &str) -> Result<AddedToken> {
    let wrong = || EngineError::model(format!("{file}: {value} is no token"));
    let flag = |name: &str| value[name].as_bool();
    let special = is_special || flag("special").unwrap_or(false);
    let mut token = AddedToken::from(content_of(value).ok_or_else(wrong)?, special);
    token.single_word = flag("single_word").unwrap_or(token.single_word);
    token.lstrip = flag("lstrip").unwrap_or(token.lstrip);
    token.rstrip = flag("rstrip").unwrap_or(token.rstrip);
    token.normalized = flag("normalized").unwrap_or(token.normalized);
    Ok(token)
}

/// The fields of a file; none where it is not there.
fn object(directory: &Path, name: &str) -> Result<Map<String, Value>> {
    let path = directory.join(name);
    if !path.is_file() {
        return Ok(Map::new());
    }
    let bytes = fs::read(&path).map_err(EngineError::io(&path))?;
    serde_json::from_slice(without_mark(&bytes)).map_err(|error| EngineError::model(format!("{name}: {error}")))
}
