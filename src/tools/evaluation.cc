#include "tools/evaluation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace tiercel::tools {
namespace {

constexpr int64_t kStepTokens = 256;  // enough for the matrix units, and few logits to keep
constexpr int kBlockTokens = 128;

// How many tokens of a window are computed: nothing is asked of its last one.
int64_t ComputedTokens(const EvalText& text, const EvalWindow& window) {
  return window.end - window.begin + (text.bos ? 1 : 0) - 1;
}

int64_t LongestContext(const EvalText& text) {
  int64_t longest = 1;
  for (const EvalWindow& window : text.windows) {
    longest = std::max(longest, ComputedTokens(text, window));
  }
  return longest;
}

Status Prepare(model::CausalLm* model, int64_t context) {
  const int64_t blocks = (context + kBlockTokens - 1) / kBlockTokens;
  return model->Prepare({.num_blocks = blocks + 1, .block_size = kBlockTokens},
                        {.max_rows = kStepTokens, .max_seqs = 1, .logit_group_rows = kStepTokens,
                         .max_context = context});
}

// A step of one window, ready to run on any model: rows of tokens, and what to score.
struct WindowStep {
  std::vector<int32_t> token_ids, positions, query_start, context_len, block_table, logit_rows;
  std::vector<int32_t> targets;  // the token behind each logit row
  const int32_t* blocks = nullptr;  // block_table's

  model::StepBatch Batch() const {
    return {.token_ids = token_ids,
            .sampled = {},
            .positions = positions,
            .query_start = query_start,
            .context_len = context_len,
            .block_tables = {&blocks, 1},
            .logit_rows = logit_rows};
  }
};

// Rows [at, at + n) of the window's sequence, which is BOS, if there is one, and its tokens. Every
// window writes the same blocks anew.
WindowStep MakeStep(const EvalText& text, const EvalWindow& window, int64_t at, int64_t n) {
  const int64_t shift = text.bos ? 1 : 0;
  WindowStep step;
  for (int64_t row = 0; row < n; ++row) {
    const int64_t token = window.begin + at + row - shift;  // −1 before BOS's place
    step.token_ids.push_back(at + row < shift ? *text.bos : text.tokens[token]);
    step.positions.push_back(static_cast<int32_t>(at + row));
    if (token + 1 >= window.first_scored) {
      step.logit_rows.push_back(static_cast<int32_t>(row));
      step.targets.push_back(text.tokens[token + 1]);
    }
  }
  step.query_start = {0, static_cast<int32_t>(n)};
  step.context_len = {static_cast<int32_t>(at + n)};
  step.block_table.resize((at + n + kBlockTokens - 1) / kBlockTokens);
  std::iota(step.block_table.begin(), step.block_table.end(), 1);
  step.blocks = step.block_table.data();
  return step;
}

// Calls `run` for every step in turn, until one fails.
Status ForEachStep(const EvalText& text, EvalProgress progress,
                   FunctionRef<Status(const WindowStep&)> run) {
  int64_t done = 0, total = 0;
  for (const EvalWindow& window : text.windows) total += ComputedTokens(text, window);
  for (const EvalWindow& window : text.windows) {
    const int64_t length = ComputedTokens(text, window);
    for (int64_t at = 0; at < length; at += kStepTokens) {
      const WindowStep step = MakeStep(text, window, at, std::min(kStepTokens, length - at));
      RETURN_IF_ERROR(run(step));
      done += std::ssize(step.token_ids);
      progress(done, total);
    }
  }
  return OkStatus();
}

// log Σ exp(x − max)
double LogSumExp(const float* x, int64_t n, float max) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - max);
  return std::log(sum);
}

struct Normalizer {
  int64_t best = 0;
  float max = 0;
  double log_sum = 0;

  double Nll(const float* x, int32_t token) const {
    return log_sum - (static_cast<double>(x[token]) - max);
  }
};

Normalizer Normalize(const kernels::Environment& environment, const float* x, int64_t n) {
  Normalizer result;
  result.best = environment.kernels->rows.argmax(x, n, &result.max);
  result.log_sum = LogSumExp(x, n, result.max);
  return result;
}

// Σ p · (log p − log q) with p = softmax(reference), q = softmax(x); rounding below zero is cut.
double Kl(const float* reference, const Normalizer& p, const float* x, const Normalizer& q,
          int64_t n) {
  const double shift = (static_cast<double>(q.max) + q.log_sum) -
                       (static_cast<double>(p.max) + p.log_sum);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += std::exp(reference[i] - p.max) * (static_cast<double>(reference[i]) - x[i] + shift);
  }
  return sum < 0 ? 0 : sum / std::exp(p.log_sum);
}

}  // namespace

std::vector<EvalWindow> CutWindows(int64_t tokens, int64_t window, int64_t stride, bool has_bos) {
  CHECK_LE(stride, window);
  std::vector<EvalWindow> windows;
  int64_t scored = 0;
  for (int64_t begin = 0; begin < tokens && scored < tokens; begin += stride) {
    const int64_t end = std::min(begin + window, tokens);
    windows.push_back({begin, end, std::max(scored, begin + (has_bos ? 0 : 1))});
    scored = end;
  }
  return windows;
}

Expected<NllScores> ScorePerplexity(model::CausalLm* model, kernels::Environment* environment,
                                    const EvalText& text, EvalProgress progress) {
  RETURN_IF_ERROR(Prepare(model, LongestContext(text)));
  const int64_t vocab = model->vocab_size();
  const int workers = environment->team->size();
  NllScores scores;
  RETURN_IF_ERROR(ForEachStep(text, progress, [&](const WindowStep& step) -> Status {
    const int64_t first = std::ssize(scores.nll);
    const int64_t rows = std::ssize(step.targets);
    scores.nll.resize(first + rows);
    return model->Run(step.Batch(), [&](const model::LogitGroup& group, int worker) {
      for (int64_t r = worker; r < rows; r += workers) {
        const float* x = group.row(r);
        scores.nll[first + r] = Normalize(*environment, x, vocab).Nll(x, step.targets[r]);
      }
    });
  }));
  return scores;
}

Expected<KlScores> ScoreKl(model::CausalLm* model, model::CausalLm* reference,
                           kernels::Environment* environment, const EvalText& text,
                           EvalProgress progress) {
  CHECK_EQ(model->vocab_size(), reference->vocab_size());
  RETURN_IF_ERROR(Prepare(reference, LongestContext(text)));
  RETURN_IF_ERROR(Prepare(model, LongestContext(text)));
  const int64_t vocab = model->vocab_size();
  const int workers = environment->team->size();
  std::vector<float> kept(kStepTokens * vocab);  // the reference's logits of this step
  KlScores scores;
  RETURN_IF_ERROR(ForEachStep(text, progress, [&](const WindowStep& step) -> Status {
    const int64_t first = std::ssize(scores.kl);
    const int64_t rows = std::ssize(step.targets);
    for (auto* list : {&scores.nll, &scores.reference_nll, &scores.kl, &scores.same_top}) {
      list->resize(first + rows);
    }
    RETURN_IF_ERROR(reference->Run(step.Batch(), [&](const model::LogitGroup& group, int worker) {
      for (int64_t r = worker; r < rows; r += workers) {
        const float* x = group.row(r);
        std::copy(x, x + vocab, kept.begin() + r * vocab);
      }
    }));
    return model->Run(step.Batch(), [&](const model::LogitGroup& group, int worker) {
      for (int64_t r = worker; r < rows; r += workers) {
        const float* truth = kept.data() + r * vocab;
        const float* x = group.row(r);
        const Normalizer p = Normalize(*environment, truth, vocab);
        const Normalizer q = Normalize(*environment, x, vocab);
        scores.reference_nll[first + r] = p.Nll(truth, step.targets[r]);
        scores.nll[first + r] = q.Nll(x, step.targets[r]);
        scores.kl[first + r] = Kl(truth, p, x, q, vocab);
        scores.same_top[first + r] = p.best == q.best ? 1 : 0;
      }
    });
  }));
  return scores;
}

Summary Summarize(std::vector<double> values) {
  CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const int64_t n = std::ssize(values);
  Summary summary;
  summary.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(n);
  double squares = 0;
  for (const double v : values) squares += (v - summary.mean) * (v - summary.mean);
  if (n > 1) summary.standard_error = std::sqrt(squares / static_cast<double>(n * (n - 1)));
  summary.median = n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  summary.p99 = values[std::min(n - 1, n * 99 / 100)];
  summary.max = values.back();
  return summary;
}

}  // namespace tiercel::tools
