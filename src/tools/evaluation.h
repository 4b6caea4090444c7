// Teacher-forced evaluation, offline: what a model predicts at every token of a text, measured by
// itself (perplexity) or against another model (KL divergence).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "base/status.h"
#include "kernels/environment.h"
#include "model/causal_lm.h"

namespace tiercel::tools {

// A stretch of tokens [begin, end) that is computed on its own. Those from `first_scored` on are
// scored, each given the tokens of the window before it.
struct EvalWindow {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t first_scored = 0;

  bool operator==(const EvalWindow&) const = default;
};

// Windows of `window` tokens, one every `stride` ≤ `window` tokens; every token is scored at most
// once. Where nothing stands before a window (`has_bos` false), its first token cannot be scored.
std::vector<EvalWindow> CutWindows(int64_t tokens, int64_t window, int64_t stride, bool has_bos);

struct EvalText {
  std::span<const int32_t> tokens;
  std::span<const EvalWindow> windows;
  std::optional<int32_t> bos;  // computed before each window's first token
};

using EvalProgress = FunctionRef<void(int64_t done, int64_t total)>;  // tokens computed

// −log p of every scored token, in their order.
struct NllScores {
  std::vector<double> nll;
};

// For every scored token: −log p of both models, KL(reference ‖ model) of their distributions, and
// whether their most probable tokens are the same.
struct KlScores {
  std::vector<double> nll, reference_nll, kl;
  std::vector<double> same_top;  // 1 or 0
};

// The models are not prepared yet (CausalLm::Prepare), and were loaded on `environment`, which
// computes the scores too. Fails where memory is short. Call from the thread that made the environment.
Expected<NllScores> ScorePerplexity(model::CausalLm* model, kernels::Environment* environment,
                                    const EvalText& text, EvalProgress progress);

// Both models have the same vocabulary size.
Expected<KlScores> ScoreKl(model::CausalLm* model, model::CausalLm* reference,
                           kernels::Environment* environment, const EvalText& text,
                           EvalProgress progress);

struct Summary {
  double mean = 0;
  double standard_error = 0;  // of the mean, as if the values were independent
  double median = 0;
  double p99 = 0;
  double max = 0;
};
Summary Summarize(std::vector<double> values);  // not empty, finite

}  // namespace tiercel::tools
