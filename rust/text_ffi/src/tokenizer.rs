//! A Hugging Face fast tokenizer: encoding by the `tokenizers` crate, and the bytes of every token
//! as a table, from which C++ decodes.

use std::collections::HashMap;

use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::Sequence;
use tokenizers::{
    AddedToken, DecoderWrapper, Encoding, ModelWrapper, NormalizedString, Normalizer,
    NormalizerWrapper, PostProcessorWrapper, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
    Tokenizer, TokenizerImpl,
};

use crate::bytes::{guard, or_panic_text, shielded, slice, Bytes, Ids};
use crate::gguf_vocab;

const ADDED: u32 = 1;
const SPECIAL: u32 = 2;

struct Token {
    spelling: String,
    bytes: Vec<u8>,
    flags: u32,
}

pub struct TiercelTokenizer {
    tokenizer: Tokenizer,
    tokens: Vec<Token>,
    leading_spaces: usize,
}

impl TiercelTokenizer {
    /// What token `id` stands for, and whether it is special; nothing for unknown ids.
    pub fn token_bytes(&self, id: usize) -> (&[u8], bool) {
        self.tokens.get(id).map_or((&[], false), |t| (&t.bytes, t.flags & SPECIAL != 0))
    }
}

/// How the vocabulary spells bytes.
#[derive(Clone, Copy, PartialEq)]
enum Spelling {
    ByteLevel,
    SentencePiece,
    Plain,
}

/// What decoding does to the spellings, and how many spaces it then takes off the front.
fn decoding_of(tokenizer: &Tokenizer) -> Result<(Spelling, usize), String> {
    let decoder = serde_json::to_value(tokenizer.get_decoder()).map_err(|e| e.to_string())?;
    let mut parts = vec![&decoder];
    if let Some(list) = decoder.get("decoders").and_then(Value::as_array) {
        parts.extend(list);
    }
    let find = |name: &str| {
        parts.iter().find(|d| d.get("type").and_then(Value::as_str) == Some(name))
    };
    let spelling = if find("ByteLevel").is_some() {
        Spelling::ByteLevel
    } else if find("ByteFallback").is_some() || find("Metaspace").is_some() {
        Spelling::SentencePiece
    } else {
        Spelling::Plain
    };
    let stripped = find("Strip").filter(|d| d.get("content").and_then(Value::as_str) == Some(" "));
    let spaces = stripped.and_then(|d| d.get("start")).and_then(Value::as_u64).unwrap_or(0);
    Ok((spelling, spaces as usize))
}

/// GPT-2's printable stand-ins for the 256 bytes.
fn byte_level_alphabet() -> HashMap<char, u8> {
    let mut map = HashMap::with_capacity(256);
    let mut next = 256u32;
    for byte in 0..=255u8 {
        let printable = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let stand_in = if printable {
            byte as u32
        } else {
            next += 1;
            next - 1
        };
        map.insert(char::from_u32(stand_in).expect("below 0x144"), byte);
    }
    map
}

fn bytes_of(token: &str, spelling: Spelling, alphabet: &HashMap<char, u8>) -> Vec<u8> {
    match spelling {
        Spelling::ByteLevel => token
            .chars()
            .map(|c| alphabet.get(&c).copied())
            .collect::<Option<Vec<u8>>>()
            .unwrap_or_else(|| token.as_bytes().to_vec()),
        Spelling::SentencePiece => {
            let hex = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
            match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
                Some(byte) => vec![byte],
                None => token.replace('\u{2581}', " ").into_bytes(),
            }
        }
        Spelling::Plain => token.as_bytes().to_vec(),
    }
}

/// Tokens that only tokenizer_config.json names, in the order of their ids.
fn add_config_tokens(tokenizer: &mut Tokenizer, config: &Value) {
    let Some(map) = config.get("added_tokens_decoder").and_then(Value::as_object) else {
        return;
    };
    let mut missing: Vec<(u32, AddedToken)> = Vec::new();
    for (id, entry) in map {
        let (Ok(id), Some(content)) = (id.parse(), entry.get("content").and_then(Value::as_str)) else {
            continue;
        };
        if content.is_empty() || tokenizer.token_to_id(content).is_some() {
            continue;
        }
        let flag = |name: &str| entry.get(name).and_then(Value::as_bool).unwrap_or(false);
        let token = AddedToken::from(content.to_string(), flag("special"))
            .lstrip(flag("lstrip"))
            .rstrip(flag("rstrip"))
            .single_word(flag("single_word"))
            .normalized(flag("normalized"));
        missing.push((id, token));
    }
    missing.sort_by_key(|(id, _)| *id);
    for (_, token) in missing {
        if token.special {
            tokenizer.add_special_tokens(&[token]);
        } else {
            tokenizer.add_tokens(&[token]);
        }
    }
}

/// Ids from this on are refused: the table is as long as the largest id.
const MAX_TOKENS: u32 = 8 << 20;

/// A text may become this many times as long before it is split into tokens. Sentencepiece's " " → "▁"
/// makes it three times as long; rules after each other multiply.
const MAX_GROWTH: usize = 256;
/// Bytes of the file that describe what is put around a text.
const MAX_AROUND: usize = 64 << 10;

/// The product, over the rules of a normalizer, of how much longer each can make a text.
fn growth_of(normalizer: &Value) -> usize {
    let parts = normalizer.get("normalizers").and_then(Value::as_array);
    let nested = parts.map_or(1, |list| {
        list.iter().map(growth_of).fold(1, usize::saturating_mul)
    });
    let added = |key: &str| normalizer.get(key).and_then(Value::as_str).map_or(0, str::len);
    // A pattern can match before every byte.
    nested.saturating_mul(1 + added("content"))
}

/// A file whose rules make a long prompt of a short text is refused.
fn check_growth(tokenizer: &Tokenizer) -> Result<(), String> {
    let normalizer = serde_json::to_value(tokenizer.get_normalizer()).map_err(|e| e.to_string())?;
    let growth = growth_of(&normalizer);
    if growth > MAX_GROWTH {
        return Err(format!(
            "normalizer: its rules can make a text {growth} times as long, expected at most {MAX_GROWTH}"
        ));
    }
    let pre = serde_json::to_string(&tokenizer.get_pre_tokenizer()).map_err(|e| e.to_string())?;
    let post = serde_json::to_string(&tokenizer.get_post_processor()).map_err(|e| e.to_string())?;
    for (name, text) in [("pre_tokenizer", pre), ("post_processor", post)] {
        if text.len() > MAX_AROUND {
            return Err(format!("{name}: found {} bytes, expected at most {MAX_AROUND}", text.len()));
        }
    }
    Ok(())
}

/// The special tokens that a post-processor puts around a text, with their ids.
fn added_around(post: &Value, found: &mut Vec<(String, u64)>) -> Result<(), String> {
    if let Some(parts) = post.get("processors").and_then(Value::as_array) {
        return parts.iter().try_for_each(|part| added_around(part, found));
    }
    for key in ["cls", "sep"] {  // Bert's and Roberta's: a token and its id
        if let Some([name, id]) = post.get(key).and_then(Value::as_array).map(Vec::as_slice) {
            found.push((name.as_str().unwrap_or("").into(), id.as_u64().unwrap_or(0)));
        }
    }
    let Some(pieces) = post.get("single").and_then(Value::as_array) else {
        return Ok(());
    };
    if !pieces.iter().any(|piece| piece.get("Sequence").is_some()) {
        return Err("post_processor.single: found no Sequence, expected the place of the text".into());
    }
    for piece in pieces {
        let Some(name) = piece.pointer("/SpecialToken/id").and_then(Value::as_str) else {
            continue;
        };
        let Some(token) = post.get("special_tokens").and_then(|tokens| tokens.get(name)) else {
            return Err(format!(
                "post_processor.single: found the token {name:?}, expected one of special_tokens"
            ));
        };
        let ids = token.get("ids").and_then(Value::as_array);
        found.extend(ids.into_iter().flatten().map(|id| (name.into(), id.as_u64().unwrap_or(0))));
    }
    Ok(())
}

/// What is put around each text must be of the vocabulary, of `size` ids: else no text could be taken.
fn check_around(tokenizer: &Tokenizer, size: usize) -> Result<(), String> {
    let post = serde_json::to_value(tokenizer.get_post_processor()).map_err(|e| e.to_string())?;
    let mut added = Vec::new();
    added_around(&post, &mut added)?;
    match added.into_iter().find(|(_, id)| *id >= size as u64) {
        Some((name, id)) => Err(format!(
            "post_processor: found the id {id} for the token {name:?}, expected one of the vocabulary's, less \
             than {size}"
        )),
        None => Ok(()),
    }
}

/// Letters, digits, blanks, marks, and what has several forms in Unicode.
const TRIED: &str = "Hello, it's a  text:\n\t1234 \u{e9}te\u{301} \u{4f60}\u{597d} \u{1f680}!";

/// A panic, or an error, of one part of a tokenizer, with the part's name.
fn tried<T>(part: &str, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match or_panic_text(work) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{part}: fails on a text: {error}")),
        Err(panic) => Err(format!("{part}: fails on a text: {panic}")),
    }
}

/// Tries each part alone, so that a fault has a name.
fn try_parts(tokenizer: &Tokenizer) -> Result<(), String> {
    if let Some(part) = tokenizer.get_normalizer() {
        tried("normalizer", || part.normalize(&mut NormalizedString::from(TRIED)))?;
    }
    if let Some(part) = tokenizer.get_pre_tokenizer() {
        tried("pre_tokenizer", || part.pre_tokenize(&mut PreTokenizedString::from(TRIED)))?;
    }
    tried("post_processor", || tokenizer.post_process(Encoding::default(), None, true)).map(|_| ())
}

/// A tokenizer that no text can be given to is refused now, not with each request. Some vocabularies spell few texts: one
/// that becomes tokens is enough.
fn try_texts(tokenizer: &Tokenizer, tokens: &[Token]) -> Result<(), String> {
    const MOST: usize = 256;
    let spelled = tokens.iter().filter_map(|t| std::str::from_utf8(&t.bytes).ok());
    let texts = std::iter::once(TRIED).chain(spelled.filter(|t| !t.is_empty()).take(MOST));
    let mut problem = "model: makes no token of any text".to_string();
    for text in texts {
        match or_panic_text(|| tokenizer.encode_fast(text, false)) {
            Ok(Ok(encoding)) if !encoding.get_ids().is_empty() => {
                return tried("post_processor", || tokenizer.encode_fast(text, true)).map(|_| ())
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => problem = format!("model: takes no text: {error}"),
            Err(panic) => return Err(format!("model: fails on a text: {panic}")),
        }
    }
    Err(problem)
}

fn build(mut tokenizer: Tokenizer) -> Result<TiercelTokenizer, String> {
    let (spelling, leading_spaces) = decoding_of(&tokenizer)?;
    // A serving tokenizer neither cuts nor pads, whatever the file was last used for.
    tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
    tokenizer.with_padding(None);
    check_growth(&tokenizer)?;
    if tokenizer.get_vocab_size(false) == 0 {
        return Err("model.vocab: found no token, expected the vocabulary".into());
    }
    let vocab = tokenizer.get_vocab(true);
    let largest = vocab.values().max().copied();
    if let Some(id) = largest.filter(|&id| id >= MAX_TOKENS) {
        return Err(format!("vocabulary: found the id {id}, expected less than {MAX_TOKENS}"));
    }
    let size = largest.map_or(0, |id| id + 1);
    let alphabet = byte_level_alphabet();
    let mut tokens: Vec<Token> = Vec::new();
    tokens.resize_with(size as usize, || Token { spelling: String::new(), bytes: Vec::new(), flags: 0 });
    for (spelled, id) in vocab {
        let bytes = bytes_of(&spelled, spelling, &alphabet);
        tokens[id as usize] = Token { spelling: spelled, bytes, flags: 0 };
    }
    for (id, added) in tokenizer.get_added_tokens_decoder() {
        let flags = ADDED | if added.special { SPECIAL } else { 0 };
        tokens[id as usize] =
            Token { bytes: added.content.as_bytes().to_vec(), spelling: added.content, flags };
    }
    check_around(&tokenizer, tokens.len())?;
    try_parts(&tokenizer)?;
    try_texts(&tokenizer, &tokens)?;
    Ok(TiercelTokenizer { tokenizer, tokens, leading_spaces })
}

/// What `drop_marks` makes the tokenizer drop. Unicode promises that it is no character.
const MARK: char = '\u{fdd0}';

impl TiercelTokenizer {
    /// From now on a MARK in a text is dropped, after added tokens were looked for: where it stands
    /// within the text of one, there is none. Added tokens that are looked for in normalized text
    /// would be found all the same, and one of a single character has no within.
    fn drop_marks(&mut self) -> Result<(), String> {
        let unfit = |added: &AddedToken| added.normalized || added.content.chars().count() < 2;
        if let Some((id, added)) =
            self.tokenizer.get_added_tokens_decoder().into_iter().find(|(_, added)| unfit(added))
        {
            return Err(format!(
                "the added token {id}, {:?}, is looked for in normalized text, or is one character",
                added.content
            ));
        }
        let drop = Replace::new(ReplacePattern::String(MARK.to_string()), "")
            .map_err(|e| e.to_string())?;
        let mut steps = vec![NormalizerWrapper::Replace(drop)];
        steps.extend(self.tokenizer.get_normalizer().cloned());
        self.tokenizer.with_normalizer(Some(Sequence::new(steps)));
        Ok(())
    }
}

fn parse(name: &str, json: &[u8]) -> Result<Value, String> {
    if json.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(json).map_err(|e| format!("{name}: {e}"))
}

/// A tokenizer whose model is known to be BPE: the crate then reads the file straight into it. For a
/// model of any kind it goes through a tree of JSON values, which takes four times as long.
type BpeTokenizer = TokenizerImpl<
    BPE,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

fn read_tokenizer(json: &[u8]) -> Result<Tokenizer, String> {
    match serde_json::from_slice::<BpeTokenizer>(json) {
        Ok(tokenizer) => Ok(tokenizer.into()),
        // Of another kind, or broken: then this says where.
        Err(_) => Tokenizer::from_bytes(json).map_err(|e| e.to_string()),
    }
}

fn reads<T: serde::de::DeserializeOwned>(value: &Value) -> bool {
    or_panic_text(|| serde_json::from_value::<T>(value.clone()).is_ok()).unwrap_or(false)
}

/// The part of the file that cannot be read alone: the library panics at some without a name.
fn broken_part(json: &[u8]) -> &'static str {
    let file: Value = serde_json::from_slice(json).unwrap_or(Value::Null);
    let parts: [(&'static str, fn(&Value) -> bool); 5] = [
        ("normalizer: ", reads::<Option<NormalizerWrapper>>),
        ("pre_tokenizer: ", reads::<Option<PreTokenizerWrapper>>),
        ("post_processor: ", reads::<Option<PostProcessorWrapper>>),
        ("decoder: ", reads::<Option<DecoderWrapper>>),
        ("model: ", reads::<ModelWrapper>),
    ];
    let is_broken = |name: &str, reads: fn(&Value) -> bool| {
        file.get(name.trim_end_matches(": ")).is_some_and(|part| !reads(part))
    };
    parts.into_iter().find(|(name, reads)| is_broken(name, *reads)).map_or("", |(name, _)| name)
}

fn parse_tokenizer(json: &[u8]) -> Result<Tokenizer, String> {
    or_panic_text(|| read_tokenizer(json))
        .unwrap_or_else(|panic| Err(format!("{}cannot be read: {panic}", broken_part(json))))
}

fn from_json(json: &[u8], config: &[u8]) -> Result<TiercelTokenizer, String> {
    let named = |e: String| format!("tokenizer.json: {e}");
    let mut tokenizer = parse_tokenizer(json).map_err(named)?;
    add_config_tokens(&mut tokenizer, &parse("tokenizer_config.json", config)?);
    or_panic_text(|| build(tokenizer)).unwrap_or_else(Err).map_err(named)
}

fn from_gguf(description: &[u8]) -> Result<TiercelTokenizer, String> {
    let vocab = parse("tokenizer.ggml", description)?;
    let json = gguf_vocab::to_tokenizer_json(&vocab)?;
    parse_tokenizer(json.to_string().as_bytes())
        .and_then(build)
        .map_err(|e| format!("tokenizer.ggml: {e}"))
}

/// # Safety
/// The slices are readable, `error` is writable.
#[no_mangle]
pub unsafe extern "C" fn tiercel_tokenizer_from_json(
    json: *const u8,
    json_size: usize,
    config: *const u8,
    config_size: usize,
    error: *mut Bytes,
) -> *mut TiercelTokenizer {
    guard(error, || from_json(slice(json, json_size), slice(config, config_size)).map(Box::new))
        .map_or(std::ptr::null_mut(), Box::into_raw)
}

/// # Safety
/// As above.
#[no_mangle]
pub unsafe extern "C" fn tiercel_tokenizer_from_gguf(
    description: *const u8,
    size: usize,
    error: *mut Bytes,
) -> *mut TiercelTokenizer {
    guard(error, || from_gguf(slice(description, size)).map(Box::new))
        .map_or(std::ptr::null_mut(), Box::into_raw)
}

/// # Safety
/// `tokenizer` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn tiercel_tokenizer_free(tokenizer: *mut TiercelTokenizer) {
    shielded((), || {
        if !tokenizer.is_null() {
            drop(Box::from_raw(tokenizer));
        }
    })
}

/// # Safety
/// `tokenizer` is valid and nobody else's yet, `error` writable.
#[no_mangle]
pub unsafe extern "C" fn tiercel_tokenizer_drop_marks(
    tokenizer: *mut TiercelTokenizer,
    error: *mut Bytes,
) -> bool {
    guard(error, || (*tokenizer).drop_marks()).is_some()
}

/// # Safety
/// `tokenizer` is valid, `text` readable, `ids` and `error` writable.
#[no_mangle]
pub unsafe extern "C" fn tiercel_tokenizer_encode(
    tokenizer: *const TiercelTokenizer,
    text: *const u8,
    size: usize,
    add_special: bool,
    ids: *mut Ids,
    error: *mut Bytes,
) -> bool {
    guard(error, || {
        let text = String::from_utf8_lossy(slice(text, size));
        let encoding = (*tokenizer)
            .tokenizer
            .encode_fast(text.as_ref(), add_special)
            .map_err(|e| e.to_string())?;
        Ok(Ids::new(encoding.get_ids().iter().map(|&id| id as i32).collect()))
    })
    .map(|list| *ids = list)
    .is_some()
}

/// # Safety
/// `tokenizer` is valid.
#[no_mangle]
pub unsafe extern "C" fn tiercel_tokenizer_size(tokenizer: *const TiercelTokenizer) -> usize {
    shielded(0, || (*tokenizer).tokens.len())
}

/// How many spaces decoding takes off the front of a text.
///
/// # Safety
/// `tokenizer` is valid.
#[no_mangle]
pub unsafe extern "C" fn tiercel_tokenizer_leading_spaces(
    tokenizer: *const TiercelTokenizer,
) -> usize {
    shielded(0, || (*tokenizer).leading_spaces)
}

/// A token's spelling and bytes, borrowed from the tokenizer; null and 0 where there is no token.
#[repr(C)]
pub struct TokenView {
    spelling: *const u8,
    spelling_size: usize,
    bytes: *const u8,
    bytes_size: usize,
    flags: u32,
}

/// # Safety
/// `tokenizer` is valid.
#[no_mangle]
pub unsafe extern "C" fn tiercel_tokenizer_token(
    tokenizer: *const TiercelTokenizer,
    id: usize,
) -> TokenView {
    let nothing = TokenView {
        spelling: std::ptr::null(),
        spelling_size: 0,
        bytes: std::ptr::null(),
        bytes_size: 0,
        flags: 0,
    };
    shielded(nothing, || {
        let token = &(&(*tokenizer).tokens)[id];
        TokenView {
            spelling: token.spelling.as_ptr(),
            spelling_size: token.spelling.len(),
            bytes: token.bytes.as_ptr(),
            bytes_size: token.bytes.len(),
            flags: token.flags,
        }
    })
}

/// The id of a spelling, or −1.
///
/// # Safety
/// `tokenizer` is valid, `token` readable.
#[no_mangle]
pub unsafe extern "C" fn tiercel_tokenizer_token_to_id(
    tokenizer: *const TiercelTokenizer,
    token: *const u8,
    size: usize,
) -> i32 {
    shielded(-1, || {
        std::str::from_utf8(slice(token, size))
            .ok()
            .and_then(|t| (*tokenizer).tokenizer.token_to_id(t))
            .map_or(-1, |id| id as i32)
    })
}
