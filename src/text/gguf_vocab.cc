#include "text/gguf_vocab.h"

#include <memory>
#include <utility>
#include <vector>

#include "text/files.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

namespace tiercel::text {
namespace {

// The names of tokenizer.ggml.pre that make different tokenizers.
constexpr const char* kSplits[] = {"qwen2", "llama-bpe", "smollm", "gpt-2"};

// Where ways of splitting differ: contractions, runs of digits, of blanks and of lines, marks beside letters and line
// ends, letters of many scripts, composed and decomposed.
constexpr const char* kProbe =
    "I'm sure THEY'RE right, we'Ll see: it's 3, 33, 333, 3333, 1234567.89 and x86_64  at  12   345\n\n\n  \tif (a != b) {\r\n\t\treturn \"c\";\n"
    "    }  \n \n\n   end   of\t\tline...\n==>  <== $1,000 #include <x> ~/a/b_c 'tis d'accord!?\n"
    "\xC3\xA9t\xC3\xA9 e\xCC\x81te\xCC\x81 Stra\xC3\x9F"
    "e \xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C \xD9\xA1\xD9\xA2\xD9\xA3 \xE0\xA4\xA8\xE0\xA4\xAE "
    "\xF0\x9F\x9A\x80\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB \xC2\xBD\xC2\xB2 \xE2\x85\xA3 \xE3\x80\x80wide  ";

// The text, then each added token between words.
std::string Probe(const GgufVocab& vocab) {
  std::string probe = kProbe;
  for (size_t id = 0; id < vocab.tokens.size(); ++id) {
    const int32_t type = vocab.token_types[id];
    if (type == kControlToken || type == kUserDefinedToken) probe += "a " + vocab.tokens[id] + " b" + vocab.tokens[id];
  }
  return probe;
}

// The tokens that stand before every text: none, or BOS.
Status ReadAddedStart(const Tokenizer& tokenizer, const std::string& path, GgufVocab* vocab) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> added, tokenizer.Encode("", true));
  if (added.empty()) return OkStatus();
  const bool is_bos = added.size() == 1 && (vocab->bos < 0 || added[0] == vocab->bos) && added[0] != vocab->eos;
  if (!is_bos) {
    return Unimplemented("{}: post_processor: adds {} tokens to a text, expected BOS or none, which is what a GGUF file can say",
                         path, added.size());
  }
  vocab->bos = added[0];
  vocab->add_bos = true;
  return OkStatus();
}

}  // namespace

Expected<GgufVocab> ReadGgufVocab(const std::string& dir, int64_t rows) {
  const std::string path = dir + "/tokenizer.json";
  ASSIGN_OR_RETURN(const std::shared_ptr<const Tokenizer> tokenizer, Tokenizer::Load(dir));
  ASSIGN_OR_RETURN(const auto json, ReadFileIfPresent(path, kMaxTokenizerBytes));
  ASSIGN_OR_RETURN(GgufVocab vocab, ParseVocab(json.value_or(""), path));
  if (std::ssize(vocab.tokens) > rows) {
    return Unexpected(Unimplemented("{}: found {} tokens, expected at most as many as the embedding has rows ({})", path,
                                    vocab.tokens.size(), rows));
  }
  while (std::ssize(vocab.tokens) < rows) vocab.tokens.push_back(PaddingToken(vocab.tokens.size()));
  vocab.token_types.resize(vocab.tokens.size(), kUnusedToken);
  vocab.bos = tokenizer->bos().value_or(-1);
  vocab.eos = tokenizer->eos().value_or(-1);
  ASSIGN_OR_RETURN(const auto config, ReadFileIfPresent(dir + "/tokenizer_config.json", kMaxTokenizerConfigBytes));
  if (const auto padding = ParseTokenizerConfig(config.value_or("")).pad_token) {
    vocab.padding = tokenizer->TokenToId(*padding).value_or(-1);
  }
  RETURN_IF_ERROR(ReadAddedStart(*tokenizer, path, &vocab));

  const std::string probe = Probe(vocab);
  ASSIGN_OR_RETURN(const std::vector<int32_t> expected, tokenizer->Encode(probe, false));
  for (const char* split : kSplits) {
    vocab.pre = split;
    const auto tried = Tokenizer::FromGguf(vocab);
    if (!tried) return Unexpected(Status(tried.error().code(), path + ": " + tried.error().message()));
    const std::shared_ptr<const Tokenizer>& made = *tried;
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids, made->Encode(probe, false));
    if (ids == expected) return vocab;
  }
  return Unexpected(Unimplemented("{}: splits texts in a way that has no name in GGUF here, expected one of qwen2, llama-bpe, "
                                  "smollm, gpt-2",
                                  path));
}

}  // namespace tiercel::text
