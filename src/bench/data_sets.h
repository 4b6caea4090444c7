// The requests of a benchmark, from vLLM's data sets by their names.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"

namespace tiercel::bench {

struct BenchRequest {
  std::string prompt;
  int64_t prompt_tokens = 0;  // by the client's tokenizer
  int64_t output_tokens = 0;  // to ask for
};

struct DataSetOptions {
  std::string name = "random";  // random, prefix_repetition, sharegpt, sonnet, custom, burstgpt
  std::string path;             // of the last four
  int64_t num_prompts = 1000;
  uint64_t seed = 0;
  bool oversample = true;  // repeat entries where there are too few
  bool shuffle = true;
  // Whether prompts of sonnet and custom are put into the chat template here; a chat's server does
  // it.
  bool apply_chat_template = true;

  struct {
    int64_t input_len = 1024, output_len = 128, prefix_len = 0;
    // Lengths are drawn from length · (1 ± ratio).
    double input_range = 0, output_range = 0;
  } random;
  struct {
    int64_t prefix_len = 256, suffix_len = 256, num_prefixes = 10, output_len = 128;
  } prefix_repetition;
  struct {
    int64_t input_len = 550, output_len = 150, prefix_len = 200;
  } sonnet;
  std::optional<int64_t> sharegpt_output_len;  // nullopt: as long as the answer in the file
  int64_t custom_output_len = 256;             // −1: output_tokens of each line
};

// What turns text into tokens.
struct TextTools {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  // A user's message in the model's chat template, as text. Null: the model has none.
  std::function<Expected<std::string>(std::string_view message)> render_chat;

  Expected<int64_t> CountTokens(std::string_view text) const;  // with BOS where there is one
};

struct DataSet {
  std::vector<BenchRequest> requests;
  std::vector<std::string> warnings;  // lines for the user
};

// Bounds of what can be asked for; docs/limits.md.
inline constexpr int64_t kMaxPrompts = 1'000'000;
inline constexpr int64_t kMaxPromptTokens = int64_t{1} << 20;  // of one
inline constexpr int64_t kMaxTokensInAll = int64_t{1} << 27;   // of all prompts: some 1 GiB of text

// The same options and seed give the same requests. Errors name the flag, or the file and its line.
Expected<DataSet> MakeDataSet(const DataSetOptions& options, const TextTools& tools);

}  // namespace tiercel::bench
