//! Grammars: which tokens may come next (llguidance). A grammar is compiled once for a vocabulary; each
//! sample has a matcher of its own, which shares nothing with others.
//!
//! Grammars are untrusted: sizes, states and the work of a step are bounded, and what goes beyond is
//! an error of that grammar alone.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{
    ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie,
};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;

use crate::bytes::{catch_panics, guard, shielded, slice, Bytes};
use crate::schema_numbers;
use crate::tokenizer::TiercelTokenizer;

/// Regex nodes while compiling: 50 a microsecond, as for the other limits measured by their authors.
const COMPILE_FUEL: u64 = 1_000_000;
/// Lexer states of one matcher: 1 to 2 KB each.
const MAX_LEXER_STATES: usize = 20_000;
/// Symbols in productions; compiling takes their square: 1,000 fields take 0.2 s, what is refused at most
/// some seconds.
const MAX_GRAMMAR_SIZE: usize = 20_000;
/// Values in a schema.
const MAX_SCHEMA_VALUES: usize = 4096;
/// Lexer work of one step: 14 a microsecond. All streams wait for it.
const STEP_FUEL: u64 = 100_000;
/// Bytes of a grammar's source.
const MAX_SOURCE: usize = 128 << 10;
/// Compiling recurses into rules that lead to rules: 128 levels a KiB of source at most, some KB each.
const COMPILE_STACK: usize = 512 << 20;
/// An error names its place and reason first; what follows may repeat the grammar.
const MAX_ERROR: usize = 500;

pub struct TiercelGrammars {
    factory: ParserFactory,
}

pub struct TiercelGrammar {
    /// At the grammar's beginning, and never moved on.
    fresh: Matcher,
}

pub struct TiercelMatcher {
    matcher: Matcher,
}

fn short(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    // The library's words for two things that a user can mend.
    let text = text.trim_end_matches("<non-verbose/>").trim_end();
    if text.contains("NoExtensionBias") {
        return "no text matches it".into();
    }
    match text.char_indices().nth(MAX_ERROR) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

fn num_values(json: &Value) -> usize {
    1 + match json {
        Value::Array(items) => items.iter().map(num_values).sum::<usize>(),
        Value::Object(members) => members.values().map(num_values).sum(),
        _ => 0,
    }
}

/// The vocabulary as llguidance has it: special tokens are no text, tokens that are none have no bytes.
fn token_words(tokenizer: &TiercelTokenizer, vocab_size: usize, eos: &[i32]) -> Vec<Vec<u8>> {
    (0..vocab_size)
        .map(|id| {
            let (bytes, special) = tokenizer.token_bytes(id);
            if bytes.is_empty() || !(special || eos.contains(&(id as i32))) {
                return bytes.to_vec();
            }
            [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat()
        })
        .collect()
}

fn grammars(tokenizer: &TiercelTokenizer, vocab_size: usize, eos: &[i32]) -> Result<TiercelGrammars, String> {
    let ends: Vec<u32> = eos.iter().map(|&id| id as u32).collect();
    let first = *ends.first().ok_or("the model has no end token")?;
    let info = TokRxInfo::new(vocab_size as u32, first);
    let trie = TokTrie::from(&info, &token_words(tokenizer, vocab_size, eos)).with_eos_tokens(&ends);
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let capabilities = InferenceCapabilities { ff_tokens: false, ..Default::default() };
    let mut factory = ParserFactory::new(
        &environment,
        capabilities,
        &llguidance::earley::SlicedBiasComputer::general_slices(),
    )
    .map_err(short)?;
    factory.quiet();
    let limits = factory.limits_mut();
    limits.initial_lexer_fuel = COMPILE_FUEL;
    limits.max_lexer_states = MAX_LEXER_STATES;
    limits.step_lexer_fuel = STEP_FUEL;
    limits.max_grammar_size = MAX_GRAMMAR_SIZE;
    limits.verbose_errors = false;
    limits.precompute_large_lexemes = false; // that is not bounded
    Ok(TiercelGrammars { factory })
}

/// A backslash with nothing behind it: it would take the slash with which the library ends the expression.
fn ends_in_escape(regex: &str) -> bool {
    regex.bytes().rev().take_while(|&c| c == b'\\').count() % 2 == 1
}

fn compile(grammars: &TiercelGrammars, kind: &[u8], source: &[u8]) -> Result<TiercelGrammar, String> {
    let kind = std::str::from_utf8(kind).map_err(short)?;
    let source = std::str::from_utf8(source).map_err(short)?;
    let grammar = match kind {
        "json_schema" => {
            let schema: Value = serde_json::from_str(&schema_numbers::of_schema(source)?).map_err(short)?;
            if num_values(&schema) > MAX_SCHEMA_VALUES {
                return Err(format!("the schema has more than {MAX_SCHEMA_VALUES} values"));
            }
            TopLevelGrammar::from_json_schema(schema)
        }
        "regex" if ends_in_escape(source) => {
            return Err("the regular expression ends within an escape".into());
        }
        "lark" => TopLevelGrammar::from_tagged_str(kind, &schema_numbers::of_lark(source)?).map_err(short)?,
        _ => TopLevelGrammar::from_tagged_str(kind, source).map_err(short)?,
    };
    let mut fresh = Matcher::new(grammars.factory.create_parser(grammar));
    if let Some(error) = fresh.get_error() {
        return Err(short(error));
    }
    // What matches nothing at all is told now; what the first step finds out, its copies know.
    fresh.compute_mask_or_eos().map_err(short)?;
    Ok(TiercelGrammar { fresh })
}

/// On a thread with room for every source; of the stack only what is used takes memory. Where the machine
/// has no such thread, `no_room` says that it is not the source's fault.
fn compile_apart(
    grammars: &TiercelGrammars,
    kind: &[u8],
    source: &[u8],
    no_room: &mut bool,
) -> Result<TiercelGrammar, String> {
    if source.len() > MAX_SOURCE {
        return Err(format!("it has {} bytes, at most {MAX_SOURCE} are taken", source.len()));
    }
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(COMPILE_STACK)
            .spawn_scoped(scope, || catch_panics(|| compile(grammars, kind, source)))
            .map_err(|e| {
                *no_room = true;
                format!("no thread to compile it: {e}")
            })?
            .join()
            .unwrap_or_else(|_| Err("the compiler broke off".into()))
    })
}

fn mask(matcher: &mut TiercelMatcher, words: &mut [u32]) -> Result<(), String> {
    let mask: SimpleVob = matcher.matcher.compute_mask_or_eos().map_err(short)?;
    let given = mask.as_slice();
    for (i, word) in words.iter_mut().enumerate() {
        *word = given.get(i).copied().unwrap_or(0);
    }
    Ok(())
}

fn accept(matcher: &mut TiercelMatcher, token: i32) -> Result<(), String> {
    // Behind the end, where only an end may come, there is nothing to follow.
    if matcher.matcher.is_stopped() && !matcher.matcher.is_error() {
        return Ok(());
    }
    matcher.matcher.consume_token(token as u32).map_err(short)
}

/// # Safety
/// `tokenizer` is valid, `eos` has `num_eos` ids, `error` is writable.
#[no_mangle]
pub unsafe extern "C" fn tiercel_grammars_new(
    tokenizer: *const TiercelTokenizer,
    vocab_size: usize,
    eos: *const i32,
    num_eos: usize,
    error: *mut Bytes,
) -> *mut TiercelGrammars {
    let eos = if num_eos == 0 { &[] } else { std::slice::from_raw_parts(eos, num_eos) };
    guard(error, || grammars(&*tokenizer, vocab_size, eos).map(Box::new))
        .map_or(std::ptr::null_mut(), Box::into_raw)
}

/// # Safety
/// `grammars` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn tiercel_grammars_free(grammars: *mut TiercelGrammars) {
    shielded((), || {
        if !grammars.is_null() {
            drop(Box::from_raw(grammars));
        }
    })
}

/// # Safety
/// `grammars` is valid, `kind` and `source` readable, `no_room` and `error` writable.
#[no_mangle]
pub unsafe extern "C" fn tiercel_grammar_compile(
    grammars: *const TiercelGrammars,
    kind: *const u8,
    kind_size: usize,
    source: *const u8,
    source_size: usize,
    no_room: *mut bool,
    error: *mut Bytes,
) -> *mut TiercelGrammar {
    *no_room = false;
    guard(error, || {
        let (kind, source) = (slice(kind, kind_size), slice(source, source_size));
        compile_apart(&*grammars, kind, source, &mut *no_room).map(Box::new)
    })
    .map_or(std::ptr::null_mut(), Box::into_raw)
}

/// # Safety
/// `grammar` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn tiercel_grammar_free(grammar: *mut TiercelGrammar) {
    shielded((), || {
        if !grammar.is_null() {
            drop(Box::from_raw(grammar));
        }
    })
}

/// # Safety
/// `grammar` is valid.
#[no_mangle]
pub unsafe extern "C" fn tiercel_matcher_new(grammar: *const TiercelGrammar) -> *mut TiercelMatcher {
    shielded(std::ptr::null_mut(), || {
        Box::into_raw(Box::new(TiercelMatcher { matcher: (*grammar).fresh.deep_clone() }))
    })
}

/// # Safety
/// `matcher` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn tiercel_matcher_free(matcher: *mut TiercelMatcher) {
    shielded((), || {
        if !matcher.is_null() {
            drop(Box::from_raw(matcher));
        }
    })
}

/// # Safety
/// `matcher` is valid and nobody else's, `words` has `num_words` words, `error` is writable.
#[no_mangle]
pub unsafe extern "C" fn tiercel_matcher_mask(
    matcher: *mut TiercelMatcher,
    words: *mut u32,
    num_words: usize,
    error: *mut Bytes,
) -> bool {
    guard(error, || mask(&mut *matcher, std::slice::from_raw_parts_mut(words, num_words))).is_some()
}

/// # Safety
/// `matcher` is valid and nobody else's, `error` is writable.
#[no_mangle]
pub unsafe extern "C" fn tiercel_matcher_accept(
    matcher: *mut TiercelMatcher,
    token: i32,
    error: *mut Bytes,
) -> bool {
    guard(error, || accept(&mut *matcher, token)).is_some()
}

/// # Safety
/// `matcher` is valid.
#[no_mangle]
pub unsafe extern "C" fn tiercel_matcher_ended(matcher: *const TiercelMatcher) -> bool {
    shielded(false, || (*matcher).matcher.is_stopped() && !(*matcher).matcher.is_error())
}
