//! A GGUF vocabulary (tokenizer.ggml.*) as the tokenizer.json that Hugging Face would have.

use serde_json::{json, Map, Value};

const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// The word-splitting patterns of the byte-level vocabularies, by tokenizer.ggml.pre.
fn split_pattern(pre: &str) -> Result<Option<&'static str>, String> {
    const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    match pre {
        "qwen2" | "deepseek-r1-qwen" => Ok(Some(QWEN2)),
        "llama-bpe" | "llama3" | "llama-v3" => Ok(Some(LLAMA3)),
        "smollm" | "gpt-2" | "default" | "" => Ok(None),
        other => Err(format!(
            "tokenizer.ggml.pre: found \"{}\", expected one of qwen2, llama-bpe, smollm, gpt-2, default",
            short(other)
        )),
    }
}

/// As much of a name as a message shows.
fn short(name: &str) -> String {
    name.chars().take(60).collect()
}

fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

fn pre_tokenizer(pre: &str) -> Result<Value, String> {
    Ok(match split_pattern(pre)? {
        Some(pattern) => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            byte_level(false)]}),
        None if pre == "smollm" => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, byte_level(true)]}),
        None => byte_level(true),
    })
}

fn strings(vocab: &Value, key: &str) -> Vec<String> {
    vocab
        .get(key)
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(|s| s.as_str().map(String::from)).collect())
        .unwrap_or_default()
}

/// Bounds of a vocabulary far above every known one (the longest known token has 256 bytes): what is made
/// of it grows with the square of a token's length.
const MAX_TOKEN_BYTES: usize = 1024;
const MAX_VOCAB_BYTES: usize = 32 << 20;
const MAX_MERGE_BYTES: usize = 128 << 20;

fn check_tokens(tokens: &[String]) -> Result<(), String> {
    if tokens.is_empty() {
        return Err("tokenizer.ggml.tokens: found none, expected the vocabulary".into());
    }
    if let Some((id, token)) = tokens.iter().enumerate().find(|(_, t)| t.len() > MAX_TOKEN_BYTES) {
        return Err(format!(
            "tokenizer.ggml.tokens: found {} bytes for token {id}, expected at most {MAX_TOKEN_BYTES}",
            token.len()
        ));
    }
    let total: usize = tokens.iter().map(String::len).sum();
    if total > MAX_VOCAB_BYTES {
        return Err(format!(
            "tokenizer.ggml.tokens: found {total} bytes, expected at most {MAX_VOCAB_BYTES}"
        ));
    }
    Ok(())
}

/// Sentencepiece vocabularies carry scores, not merges: a piece is merged from the pair of pieces
/// that it splits into, the best score first.
fn merges_from_scores(tokens: &[String], scores: &[f64]) -> Result<Vec<Value>, String> {
    let ids: std::collections::HashMap<&str, usize> =
        tokens.iter().enumerate().map(|(i, t)| (t.as_str(), i)).collect();
    let mut merges: Vec<(f64, usize, usize, &str, &str)> = Vec::new();
    let mut bytes = 0;
    for (id, token) in tokens.iter().enumerate() {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                merges.push((scores.get(id).copied().unwrap_or(0.0), l, r, left, right));
                bytes += token.len() + std::mem::size_of::<Value>() * 3;
            }
        }
        if bytes > MAX_MERGE_BYTES {
            return Err(format!(
                "tokenizer.ggml.tokens: the tokens can be put together in more than {} ways, which is \
                 no language's vocabulary",
                merges.len()
            ));
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    Ok(merges.into_iter().map(|m| json!([m.3, m.4])).collect())
}

/// Prepends BOS where the vocabulary says so.
fn post_processor(vocab: &Value, tokens: &[String]) -> Value {
    let bos = vocab.get("bos").and_then(Value::as_i64).unwrap_or(-1);
    let wanted = vocab.get("add_bos").and_then(Value::as_bool).unwrap_or(false);
    match tokens.get(bos as usize) {
        Some(token) if wanted && bos >= 0 => json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [bos], "tokens": [token]}}}),
        _ => Value::Null,
    }
}

pub fn to_tokenizer_json(vocab: &Value) -> Result<Value, String> {
    let model = vocab.get("model").and_then(Value::as_str).unwrap_or("");
    let pre = vocab.get("pre").and_then(Value::as_str).unwrap_or("");
    let tokens = strings(vocab, "tokens");
    check_tokens(&tokens)?;
    let types: Vec<i64> = vocab
        .get("token_types")
        .and_then(Value::as_array)
        .map(|list| list.iter().map(|t| t.as_i64().unwrap_or(NORMAL)).collect())
        .unwrap_or_default();
    let mut ids = Map::new();
    let mut added = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        ids.insert(token.clone(), json!(id));
        let kind = types.get(id).copied().unwrap_or(NORMAL);
        if kind == CONTROL || kind == USER_DEFINED || (kind == UNKNOWN && model == "llama") {
            added.push(json!({"id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": kind != USER_DEFINED}));
        }
    }
    let unknown = vocab
        .get("unknown")
        .and_then(Value::as_i64)
        .and_then(|id| tokens.get(usize::try_from(id).ok()?));
    let (normalizer, pre_tokenizer, decoder, bpe) = match model {
        "gpt2" => (
            if pre == "qwen2" { json!({"type": "NFC"}) } else { Value::Null },
            pre_tokenizer(pre)?,
            byte_level(true),
            json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                // Llama 3 takes words that are tokens whole, past the merges.
                "ignore_merges": split_pattern(pre)?.is_some() && pre.starts_with("llama"),
                "vocab": ids, "merges": strings(vocab, "merges")}),
        ),
        "llama" => {
            let scores: Vec<f64> = vocab
                .get("scores")
                .and_then(Value::as_array)
                .map(|list| list.iter().map(|s| s.as_f64().unwrap_or(0.0)).collect())
                .unwrap_or_default();
            let mut normalizers = vec![
                json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}),
            ];
            let mut decoders = vec![
                json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
                json!({"type": "ByteFallback"}),
                json!({"type": "Fuse"}),
            ];
            if vocab.get("add_space_prefix").and_then(Value::as_bool).unwrap_or(true) {
                normalizers.insert(0, json!({"type": "Prepend", "prepend": "\u{2581}"}));
                decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
            }
            (
                json!({"type": "Sequence", "normalizers": normalizers}),
                Value::Null,
                json!({"type": "Sequence", "decoders": decoders}),
                json!({"type": "BPE", "dropout": null, "unk_token": unknown,
                    "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
                    "byte_fallback": true, "ignore_merges": false,
                    "merges": merges_from_scores(&tokens, &scores)?, "vocab": ids}),
            )
        }
        other => {
            return Err(format!(
                "tokenizer.ggml.model: found \"{}\", expected gpt2 or llama",
                short(other)
            ))
        }
    };
    Ok(json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor(vocab, &tokens), "decoder": decoder, "model": bpe}))
}
