// Detokenizer: the text of one growing sequence, delta by delta, stop strings included.
//
// The concatenation of all deltas equals Decode of the whole output, wherever tokens split
// characters, with these differences: it is cut at a stop string; a space at the front stays, since
// the output continues a prompt; a character that the output leaves unfinished is left out. Bytes
// that may still become a whole UTF-8 character are held back, and so is text that may still become
// a stop string (prefix match, nothing more). Text of the prompt is never part of a delta, even if
// the prompt ends within a character.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "text/stop_strings.h"
#include "text/tokenizer.h"

namespace tiercel::text {

// One for all choices of an answer.
struct DetokenizerOptions {
  bool skip_special_tokens = true;
  StopStrings stop;
  bool include_stop_str_in_output = false;
  int64_t min_tokens = 0;  // stop strings do not count before this many output tokens
};

class Detokenizer {
 public:
  // Both outlive this.
  Detokenizer(const Tokenizer& tokenizer, const DetokenizerOptions& options);

  // Takes the next output token, returns the text that is now certain (may be empty).
  // After a stop string was found it must not be called again.
  std::string Append(int32_t token);

  // The end by another cause (length, eos): returns the text that was held back.
  std::string Finish();

  // The stop string that ended the text, once there is one; lives as long as the options.
  std::optional<std::string_view> matched_stop() const { return matched_stop_; }
  bool holds_back() const { return !pending_bytes_.empty() || !held_text_.empty(); }

 private:
  const Tokenizer& tokenizer_;
  const DetokenizerOptions& options_;
  StopSearch search_;
  std::optional<std::string_view> matched_stop_;
  std::string pending_bytes_;  // an unfinished UTF-8 character
  std::string held_text_;      // a possible beginning of a stop string
  int64_t num_tokens_ = 0;
};

}  // namespace tiercel::text
