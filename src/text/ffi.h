// The C border of rust/text_ffi. Only src/text/*.cc includes it.
//
// Conventions: inputs are borrowed for the call; Tiercel{Bytes,Ids} that a function fills belong to
// the caller and are freed by their own functions; a function that fails (null or false) has
// filled *error with UTF-8 text. All functions may be called from many threads at once on one
// object; nothing here panics or unwinds.
#pragma once

#include <stddef.h>
#include <stdint.h>

extern "C" {

struct TiercelTokenizer;
struct TiercelTemplate;
struct TiercelGrammars;
struct TiercelGrammar;
struct TiercelMatcher;

struct TiercelBytes {
  uint8_t* data;
  size_t size;
};
void tiercel_bytes_free(TiercelBytes bytes);

struct TiercelIds {
  int32_t* data;
  size_t size;
};
void tiercel_ids_free(TiercelIds ids);

// `json`: tokenizer.json; `config`: tokenizer_config.json or empty.
TiercelTokenizer* tiercel_tokenizer_from_json(const uint8_t* json, size_t json_size,
                                              const uint8_t* config, size_t config_size,
                                              TiercelBytes* error);
// `description`: GgufVocab as a JSON object with the same field names.
TiercelTokenizer* tiercel_tokenizer_from_gguf(const uint8_t* description, size_t size,
                                              TiercelBytes* error);
void tiercel_tokenizer_free(TiercelTokenizer* tokenizer);

// From now on U+FDD0 in a text is dropped, after added tokens were looked for. Before the tokenizer is
// shared.
bool tiercel_tokenizer_drop_marks(TiercelTokenizer* tokenizer, TiercelBytes* error);

// Invalid UTF-8 is replaced.
bool tiercel_tokenizer_encode(const TiercelTokenizer* tokenizer, const uint8_t* text, size_t size,
                              bool add_special, TiercelIds* ids, TiercelBytes* error);

// 1 + the largest id.
size_t tiercel_tokenizer_size(const TiercelTokenizer* tokenizer);

// How many spaces decoding takes off the front of a text (1 for Llama's sentencepiece, which puts
// one there before it encodes).
size_t tiercel_tokenizer_leading_spaces(const TiercelTokenizer* tokenizer);

enum { kTiercelTokenAdded = 1, kTiercelTokenSpecial = 2 };
struct TiercelTokenView {  // borrowed from the tokenizer
  const uint8_t* spelling;
  size_t spelling_size;
  const uint8_t* bytes;
  size_t bytes_size;
  uint32_t flags;
};
TiercelTokenView tiercel_tokenizer_token(const TiercelTokenizer* tokenizer, size_t id);
int32_t tiercel_tokenizer_token_to_id(const TiercelTokenizer* tokenizer, const uint8_t* token,
                                      size_t size);

TiercelTemplate* tiercel_template_compile(const uint8_t* source, size_t size, TiercelBytes* error);
void tiercel_template_free(TiercelTemplate* chat_template);
// `values`: a JSON object.
bool tiercel_template_render(const TiercelTemplate* chat_template, const uint8_t* values,
                             size_t size, TiercelBytes* text, TiercelBytes* error);

// Grammars over a vocabulary of `vocab_size` ids; `eos` [0] is the primary end. Takes some 100 ms.
TiercelGrammars* tiercel_grammars_new(const TiercelTokenizer* tokenizer, size_t vocab_size,
                                      const int32_t* eos, size_t num_eos, TiercelBytes* error);
void tiercel_grammars_free(TiercelGrammars* grammars);
// `kind`: "json_schema", "regex" or "lark". `no_room`: it is not the source's fault, memory ends.
TiercelGrammar* tiercel_grammar_compile(const TiercelGrammars* grammars, const uint8_t* kind,
                                        size_t kind_size, const uint8_t* source,
                                        size_t source_size, bool* no_room, TiercelBytes* error);
void tiercel_grammar_free(TiercelGrammar* grammar);
// A matcher is used by one thread at a time. It outlives its grammar. Null after a panic.
TiercelMatcher* tiercel_matcher_new(const TiercelGrammar* grammar);
void tiercel_matcher_free(TiercelMatcher* matcher);
// Bit t % 32 of word t / 32: token t may come next.
bool tiercel_matcher_mask(TiercelMatcher* matcher, uint32_t* words, size_t num_words,
                          TiercelBytes* error);
bool tiercel_matcher_accept(TiercelMatcher* matcher, int32_t token, TiercelBytes* error);
bool tiercel_matcher_ended(const TiercelMatcher* matcher);

}  // extern "C"
