// Runs a model over given tokens and writes what it predicts at each of them.
//
//   teacher_force MODEL TOKENS OUT [--nll] [--window N] [--chunk N] [--decode-from N]
//       [--int8] [--mix-static] [--int8-head] [--blocks]
//
// TOKENS is a file of int32, OUT gets float32: the logits [tokens, vocab], or with --nll −log p of
// each token given those before it (the first of a window is NaN). The tokens are cut into
// windows of N (default: all in one), each a sequence of its own, computed in chunks of at most
// --chunk rows (default 256); from position --decode-from of a window on, token by token.
// --int8 quantizes a float model as it is loaded, --int8-head the head; --mix-static reads W8A8_MIX as
// static; --blocks keeps the weights of a block format in it (else they become BF16).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "base/log.h"
#include "parity/model_runner.h"

namespace tiercel::parity {
namespace {

struct Options {
  std::string model, tokens, out;
  bool nll = false, int8 = false, blocks = false;
  model::WeightOptions weights;
  int64_t window = std::numeric_limits<int32_t>::max();
  int64_t chunk = 256;
  int64_t decode_from = std::numeric_limits<int32_t>::max();
};

Expected<Options> ParseOptions(const std::vector<std::string>& args) {
  Options options;
  std::vector<std::string> places;
  for (size_t i = 0; i < args.size(); ++i) {
    int64_t* number = args[i] == "--window"        ? &options.window
                      : args[i] == "--chunk"       ? &options.chunk
                      : args[i] == "--decode-from" ? &options.decode_from
                                                   : nullptr;
    bool* const on = args[i] == "--nll"          ? &options.nll
                     : args[i] == "--int8"       ? &options.int8
                     : args[i] == "--blocks"     ? &options.blocks
                     : args[i] == "--int8-head"  ? &options.weights.quantize_lm_head
                     : args[i] == "--mix-static" ? &options.weights.mix_static
                                                 : nullptr;
    if (on != nullptr) {
      *on = true;
    } else if (number == nullptr) {
      places.push_back(args[i]);
    } else {
      const std::string value = i + 1 < args.size() ? args[i + 1] : "";
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *number);
      if (error != std::errc() || end != value.data() + value.size() || *number < 1) {
        return Unexpected(InvalidArgument("{}: found \"{}\", expected a positive number", args[i],
                                          value));
      }
      ++i;
    }
  }
  if (places.size() != 3) {
    return Unexpected(InvalidArgument("expected MODEL TOKENS OUT, found {} names", places.size()));
  }
  options.model = places[0];
  options.tokens = places[1];
  options.out = places[2];
  return options;
}

Expected<std::vector<int32_t>> ReadTokens(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return Unexpected(NotFound("{}: cannot be opened", path));
  std::vector<int32_t> tokens(static_cast<size_t>(file.tellg()) / sizeof(int32_t));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(tokens.data()), std::ssize(tokens) * sizeof(int32_t));
  if (!file || tokens.empty()) return Unexpected(InvalidArgument("{}: no int32 tokens", path));
  return tokens;
}

float NegativeLogLikelihood(const std::vector<float>& logits, int32_t token) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - max);
  return static_cast<float>(max + std::log(sum) - logits[token]);
}

Status Main(const Options& options) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, ReadTokens(options.tokens));
  const int64_t total = std::ssize(tokens);
  RunnerOptions runner_options;
  runner_options.weights = options.weights;
  if (options.int8) runner_options.weights.quantize = checkpoint::QuantizeTo::kInt8;
  runner_options.weights.keep_blocks = options.blocks;
  runner_options.quantization = options.int8 ? "int8" : "";
  runner_options.block_size = 128;
  runner_options.num_blocks = total / 128 + (total + options.window - 1) / options.window + 2;
  runner_options.limits = {.max_rows = options.chunk, .max_seqs = 1,
                           .logit_group_rows = options.chunk};
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelRunner> runner,
                   ModelRunner::Create(options.model, runner_options));
  std::ofstream out(options.out, std::ios::binary);
  const auto write = [&](const float* data, int64_t n) {
    out.write(reinterpret_cast<const char*>(data), n * static_cast<int64_t>(sizeof(float)));
  };
  for (int64_t begin = 0; begin < total; begin += options.window) {
    const int64_t end = std::min(begin + options.window, total);
    const int sequence = runner->NewSequence();
    if (options.nll) {
      const float nan = std::numeric_limits<float>::quiet_NaN();
      write(&nan, 1);
    }
    for (int64_t at = begin; at < end;) {
      int64_t rows = std::min(options.chunk, end - at);
      const int64_t prefill_end = begin + options.decode_from;
      rows = at >= prefill_end ? 1 : std::min(rows, prefill_end - at);
      runner->Step({{sequence, {tokens.begin() + at, tokens.begin() + at + rows}}});
      for (int64_t r = 0; r < rows; ++r) {
        const std::vector<float>& logits = runner->logits()[r];
        if (!options.nll) {
          write(logits.data(), std::ssize(logits));
        } else if (at + r + 1 < end) {
          const float nll = NegativeLogLikelihood(logits, tokens[at + r + 1]);
          write(&nll, 1);
        }
      }
      at += rows;
    }
  }
  out.close();
  if (!out) return ResourceExhausted("{}: cannot be written", options.out);
  return OkStatus();
}

}  // namespace
}  // namespace tiercel::parity

int main(int argc, char** argv) {
  tiercel::InitLogging();
  const auto options = tiercel::parity::ParseOptions({argv + 1, argv + argc});
  const tiercel::Status status =
      options ? tiercel::parity::Main(*options) : options.error();
  if (status.ok()) return 0;
  std::fprintf(stderr, "teacher_force: %s\n", status.message().c_str());
  return 2;
}
