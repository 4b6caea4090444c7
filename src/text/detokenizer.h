// Detokenizer: the text of one growing sequence, delta by delta, stop strings included.
//
// The concatenation of all deltas equals Decode of the whole output (cut at a stop string; a space
// at the front stays, since the output continues a prompt), wherever tokens split characters: bytes that may still become a whole UTF-8 character are held
// back, and so is text that may still become a stop string (prefix match, nothing more). Text of
// the prompt is never part of a delta, even if the prompt ends within a character.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace tiercel::text {

struct DetokenizerOptions {
  bool skip_special_tokens = true;
  std::vector<std::string> stop;           // none empty
  bool include_stop_str_in_output = false;
  int64_t min_tokens = 0;  // stop strings do not count before this many output tokens
};

class Detokenizer {
 public:
  Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, DetokenizerOptions options);

  // Takes the next output token, returns the text that is now certain (may be empty).
  // After a stop string was found it must not be called again.
  std::string Append(int32_t token);

  // The end by another cause (length, eos): returns all that was held back (an unfinished
  // character as U+FFFD, as Decode gives it).
  std::string Finish();

  // The stop string that ended the text, once there is one.
  const std::optional<std::string>& matched_stop() const { return matched_stop_; }

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  DetokenizerOptions options_;
  std::optional<std::string> matched_stop_;
  std::string pending_bytes_;  // an unfinished UTF-8 character
  std::string held_text_;      // a possible beginning of a stop string
  int64_t num_tokens_ = 0;
};

}  // namespace tiercel::text
