#include "bench/data_sets.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/file_sets.h"
#include "bench/random_text.h"

namespace tiercel::bench {
namespace {

Status CheckLength(const char* flag, int64_t value, int64_t low) {
  if (value >= low && value <= kMaxPromptTokens) return OkStatus();
  return InvalidArgument("argument {}: found {}, expected {} … {}", flag, value, low,
                         kMaxPromptTokens);
}

Status CheckInAll(int64_t prompts, int64_t tokens) {
  if (tokens == 0 || prompts <= kMaxTokensInAll / tokens) return OkStatus();
  return InvalidArgument(
      "argument --num-prompts: found {} prompts of up to {} tokens, expected at most {} tokens in "
      "all",
      prompts, tokens, kMaxTokensInAll);
}

Status CheckRange(double range) {
  if (range >= 0 && range < 1) return OkStatus();
  return InvalidArgument("argument --random-range-ratio: found {}, expected 0 ≤ ratio < 1", range);
}

struct Lengths {
  int64_t low, high;

  Lengths(int64_t length, double range, int64_t least)
      : low(std::max(least,
                     static_cast<int64_t>(std::floor(static_cast<double>(length) * (1 - range))))),
        high(std::max(
            low, static_cast<int64_t>(std::ceil(static_cast<double>(length) * (1 + range))))) {}
  int64_t Draw(Random* random) const {
    return low + static_cast<int64_t>(Below(random, static_cast<uint64_t>(high - low) + 1));
  }
};

// Says how far the prompts are from the lengths that were asked for, if they are.
void WarnOfMisfit(int64_t misfit, std::vector<std::string>* warnings) {
  if (misfit == 0) return;
  warnings->push_back(
      fmt::format("all prompts together have {} {} tokens than asked for: their text tokenizes "
                  "otherwise than it was drawn",
                  std::abs(misfit), misfit > 0 ? "more" : "fewer"));
}

Status MakeRandom(const DataSetOptions& options, const TextTools& tools, Random* random,
                  DataSet* set) {
  const auto& lengths = options.random;
  RETURN_IF_ERROR(CheckLength("--random-input-len", lengths.input_len, 0));
  RETURN_IF_ERROR(CheckLength("--random-output-len", lengths.output_len, 1));
  RETURN_IF_ERROR(CheckLength("--random-prefix-len", lengths.prefix_len, 0));
  RETURN_IF_ERROR(CheckRange(lengths.input_range));
  RETURN_IF_ERROR(CheckRange(lengths.output_range));
  // What the server puts before a prompt is part of the length.
  ASSIGN_OR_RETURN(const int64_t special, tools.CountTokens(""));
  const Lengths input(std::max<int64_t>(lengths.input_len - special, 0), lengths.input_range, 0);
  const Lengths output(lengths.output_len, lengths.output_range, 1);
  if (lengths.prefix_len + input.low < 1) {
    return InvalidArgument(
        "argument --random-input-len: found {}, which leaves a prompt without tokens; expected "
        "more, or a --random-prefix-len",
        lengths.input_len);
  }
  RETURN_IF_ERROR(CheckInAll(options.num_prompts, lengths.prefix_len + input.high));

  ASSIGN_OR_RETURN(const RandomText text, RandomText::Create(tools.tokenizer.get()));
  const std::vector<int32_t> prefix = text.Tokens(lengths.prefix_len, random);
  int64_t misfit = 0;
  for (int64_t i = 0; i < options.num_prompts; ++i) {
    std::vector<int32_t> tokens = prefix;
    const std::vector<int32_t> own = text.Tokens(input.Draw(random), random);
    tokens.insert(tokens.end(), own.begin(), own.end());
    const int64_t wanted = std::ssize(tokens);
    const int64_t output_tokens = output.Draw(random);
    ASSIGN_OR_RETURN(RandomText::Prompt prompt, text.Fit(std::move(tokens), random));
    misfit += prompt.tokens - wanted;
    set->requests.push_back({std::move(prompt.text), prompt.tokens + special, output_tokens});
  }
  WarnOfMisfit(misfit, &set->warnings);
  return OkStatus();
}

Status MakePrefixRepetition(const DataSetOptions& options, const TextTools& tools, Random* random,
                            DataSet* set) {
  const auto& lengths = options.prefix_repetition;
  RETURN_IF_ERROR(CheckLength("--prefix-repetition-prefix-len", lengths.prefix_len, 1));
  RETURN_IF_ERROR(CheckLength("--prefix-repetition-suffix-len", lengths.suffix_len, 1));
  RETURN_IF_ERROR(CheckLength("--prefix-repetition-output-len", lengths.output_len, 1));
  if (lengths.num_prefixes < 1 || lengths.num_prefixes > options.num_prompts) {
    return InvalidArgument(
        "argument --prefix-repetition-num-prefixes: found {}, expected 1 … {}, the number of "
        "prompts",
        lengths.num_prefixes, options.num_prompts);
  }
  RETURN_IF_ERROR(CheckInAll(options.num_prompts, lengths.prefix_len + lengths.suffix_len));

  ASSIGN_OR_RETURN(const RandomText text, RandomText::Create(tools.tokenizer.get()));
  ASSIGN_OR_RETURN(const int64_t special, tools.CountTokens(""));
  int64_t misfit = 0;
  for (int64_t i = 0; i < lengths.num_prefixes; ++i) {
    const std::vector<int32_t> prefix = text.Tokens(lengths.prefix_len, random);
    // Each prefix as often as the others, so that there may be fewer prompts than asked for; as
    // vLLM.
    for (int64_t j = 0; j < options.num_prompts / lengths.num_prefixes; ++j) {
      std::vector<int32_t> tokens = prefix;
      const std::vector<int32_t> suffix = text.Tokens(lengths.suffix_len, random);
      tokens.insert(tokens.end(), suffix.begin(), suffix.end());
      const int64_t wanted = std::ssize(tokens);
      ASSIGN_OR_RETURN(RandomText::Prompt prompt, text.Fit(std::move(tokens), random));
      misfit += prompt.tokens - wanted;
      set->requests.push_back(
          {std::move(prompt.text), prompt.tokens + special, lengths.output_len});
    }
  }
  if (options.shuffle) Shuffle(&set->requests, random);
  WarnOfMisfit(misfit, &set->warnings);
  return OkStatus();
}

using FileSet = Expected<std::vector<BenchRequest>> (*)(const DataSetOptions&, const TextTools&,
                                                        Random*);
FileSet FileSetOf(std::string_view name) {
  if (name == "sharegpt") return &ShareGptRequests;
  if (name == "sonnet") return &SonnetRequests;
  if (name == "custom") return &CustomRequests;
  if (name == "burstgpt") return &BurstGptRequests;
  return nullptr;
}

Status MakeFromFile(const DataSetOptions& options, const TextTools& tools, FileSet make,
                    Random* random, DataSet* set) {
  if (options.path.empty()) {
    return InvalidArgument(
        "argument --dataset-path: --dataset-name {} is a file, expected its name", options.name);
  }
  RETURN_IF_ERROR(CheckLength("--sonnet-output-len", options.sonnet.output_len, 1));
  RETURN_IF_ERROR(CheckLength("--sonnet-input-len", options.sonnet.input_len, 1));
  RETURN_IF_ERROR(CheckLength("--sonnet-prefix-len", options.sonnet.prefix_len, 0));
  RETURN_IF_ERROR(CheckLength("--sharegpt-output-len", options.sharegpt_output_len.value_or(1), 1));
  if (options.custom_output_len != -1) {
    RETURN_IF_ERROR(CheckLength("--custom-output-len", options.custom_output_len, 1));
  }
  ASSIGN_OR_RETURN(set->requests, make(options, tools, random));
  const size_t found = set->requests.size();
  if (found == 0) {
    return InvalidArgument("{}: found no prompt that --dataset-name {} takes", options.path,
                           options.name);
  }
  if (std::ssize(set->requests) >= options.num_prompts) return OkStatus();
  if (!options.oversample) {
    set->warnings.push_back(fmt::format("{}: found {} prompts, {} were asked for", options.path,
                                        found, options.num_prompts));
    return OkStatus();
  }
  set->warnings.push_back(
      fmt::format("{}: found {} prompts, {} were asked for: some are sent again (--no-oversample: "
                  "none)",
                  options.path, found, options.num_prompts));
  while (std::ssize(set->requests) < options.num_prompts) {
    set->requests.push_back(set->requests[Below(random, found)]);
  }
  return OkStatus();
}

}  // namespace

Expected<int64_t> TextTools::CountTokens(std::string_view text) const {
  ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                   tokenizer->Encode(text, /*add_special=*/true));
  return std::ssize(tokens);
}

Expected<DataSet> MakeDataSet(const DataSetOptions& options, const TextTools& tools) {
  if (options.num_prompts < 1 || options.num_prompts > kMaxPrompts) {
    return Unexpected(InvalidArgument("argument --num-prompts: found {}, expected 1 … {}",
                                      options.num_prompts, kMaxPrompts));
  }
  Random random(options.seed);
  DataSet set;
  if (const FileSet make = FileSetOf(options.name); make != nullptr) {
    RETURN_IF_ERROR(MakeFromFile(options, tools, make, &random, &set));
    return set;
  }
  if (!options.path.empty()) {
    return Unexpected(
        InvalidArgument("argument --dataset-path: --dataset-name {} is no file; name the data set "
                        "of {}",
                        options.name, options.path));
  }
  RETURN_IF_ERROR(options.name == "random" ? MakeRandom(options, tools, &random, &set)
                                           : MakePrefixRepetition(options, tools, &random, &set));
  return set;
}

}  // namespace tiercel::bench
