// step_benchmark MODEL [work ...]: prefill and decode steps of a model without engine or server,
// each as a share of what the machine could do in this same run.
//
//   work   p512   prefill of 512 tokens in one step
//          c16384 prefill of 16384 tokens in chunks of 2048
//          d8x256 one decode step of 8 sequences with 256 tokens of context each
//
// A prefill's share is FLOPs ÷ the matmul peak; a decode's is the larger of bytes ÷ bandwidth and
// FLOPs ÷ peak. Prints the median of --repeat (default 7) runs.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/log.h"
#include "kernels/machine_limits.h"
#include "model/checkpoint.h"
#include "model/load_model.h"

namespace tiercel {
namespace {

constexpr int kBlockSize = 128;
constexpr int64_t kChunk = 2048;

struct Work {
  char kind = 'p';  // p, c or d
  int64_t seqs = 1;
  int64_t tokens = 0;  // prompt length, or context length of a decode
};

Expected<Work> ParseWork(std::string_view text) {
  Work work;
  const auto number = [](std::string_view s, int64_t* out) {
    const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), *out);
    return ec == std::errc() && end == s.data() + s.size() && *out > 0;
  };
  bool ok = !text.empty();
  if (ok) {
    work.kind = text[0];
    text.remove_prefix(1);
    if (work.kind == 'd') {
      const size_t x = text.find('x');
      ok = x != text.npos && number(text.substr(0, x), &work.seqs) &&
           number(text.substr(x + 1), &work.tokens);
    } else {
      ok = (work.kind == 'p' || work.kind == 'c') && number(text, &work.tokens);
    }
  }
  if (!ok) return Unexpected(InvalidArgument("work: expected p512, c16384 or d8x256"));
  return work;
}

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
  return v[v.size() / 2];
}

// Owns the plain arrays of a StepBatch. Sequence s uses the blocks 1 + s·B … of the pool.
class Step {
 public:
  Step(int64_t seqs, int64_t max_tokens)
      : seqs_(seqs), stride_((max_tokens + kBlockSize - 1) / kBlockSize) {
    block_table_.resize(seqs * stride_);
    for (size_t i = 0; i < block_table_.size(); ++i) block_table_[i] = 1 + static_cast<int>(i);
  }

  // Every sequence adds `count` tokens at `position`.
  model::StepBatch Make(int64_t position, int64_t count, int64_t vocab) {
    const int64_t rows = seqs_ * count;
    tokens_.resize(rows);
    positions_.resize(rows);
    query_start_.assign(1, 0);
    context_.clear();
    logit_rows_.clear();
    for (int64_t s = 0; s < seqs_; ++s) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t p = position + i;
        tokens_[s * count + i] = static_cast<int32_t>((p * 7919 + s * 104729 + 13) % vocab);
        positions_[s * count + i] = static_cast<int32_t>(p);
      }
      query_start_.push_back(static_cast<int32_t>((s + 1) * count));
      context_.push_back(static_cast<int32_t>(position + count));
      logit_rows_.push_back(static_cast<int32_t>((s + 1) * count - 1));
    }
    return {.token_ids = tokens_,
            .sampled = {},
            .positions = positions_,
            .query_start = query_start_,
            .context_len = context_,
            .block_table = block_table_,
            .block_table_stride = stride_,
            .logit_rows = logit_rows_};
  }

 private:
  int64_t seqs_, stride_;
  std::vector<int32_t> tokens_, positions_, query_start_, context_, block_table_, logit_rows_;
};

struct Cost {
  double flop = 0;
  double bytes = 0;
};

// FLOPs and DRAM bytes of adding `count` tokens at `position` to each of `seqs` sequences.
Cost CostOf(const model::ModelConfig& c, int64_t seqs, int64_t position, int64_t count) {
  const double layer = static_cast<double>(c.hidden_size) *
                           (2.0 * c.num_heads + 2.0 * c.num_kv_heads) * c.head_dim +
                       3.0 * c.hidden_size * c.intermediate_size;
  const double head = static_cast<double>(c.vocab_size) * c.hidden_size;
  const double rows = static_cast<double>(seqs * count);
  const double keys = static_cast<double>(seqs) * count * (position + (count + 1) / 2.0);
  const double kv_token = 2.0 * c.num_layers * c.num_kv_heads * c.head_dim * sizeof(BF16);
  return {.flop = 2 * rows * layer * c.num_layers + 2.0 * seqs * head +
                  4.0 * keys * c.num_heads * c.head_dim * c.num_layers,
          .bytes = 2 * (layer * c.num_layers + head) +
                   static_cast<double>(seqs) * (position + count) * kv_token};
}

Status Main(const std::string& path, const std::vector<Work>& works, int repeat) {
  ASSIGN_OR_RETURN(auto environment, kernels::Environment::Create({}));
  ASSIGN_OR_RETURN(auto checkpoint, model::Checkpoint::Open(path));
  const model::ModelConfig config = checkpoint->config();
  const double load_begin = Now();
  ASSIGN_OR_RETURN(auto lm, model::LoadModel(*checkpoint, {}, environment.get(),
                                             [](int64_t, int64_t) {}));
  fmt::print("{}: loaded in {:.2f} s, {:.2f} GB of weights, {} workers, {}\n", path,
             Now() - load_begin, lm->WeightBytes() * 1e-9, lm->workers(),
             environment->kernels->detail);

  int64_t blocks = 1, rows = 1, seqs = 1;
  for (const Work& w : works) {
    blocks = std::max(blocks, 1 + w.seqs * ((w.tokens + kBlockSize) / kBlockSize));
    rows = std::max({rows, w.seqs, w.kind == 'p' ? w.tokens : kChunk});
    seqs = std::max(seqs, w.seqs);
  }
  RETURN_IF_ERROR(lm->Prepare({.num_blocks = blocks, .block_size = kBlockSize},
                              {.max_rows = rows, .max_seqs = seqs, .max_logit_rows = seqs}));
  const auto run = [&](const model::StepBatch& batch) {
    const double begin = Now();
    lm->Run(batch, [](int) {});
    return Now() - begin;
  };

  for (const Work& w : works) {
    const kernels::MachineLimits before = kernels::MeasureLimits(*environment);
    Step step(w.seqs, w.tokens + 1);
    std::vector<double> seconds;
    Cost cost;
    if (w.kind == 'd') {
      cost = CostOf(config, w.seqs, w.tokens, 1);
      // The context is computed first: memory that nothing has written is not read from DRAM.
      const int64_t count = std::max<int64_t>(1, kChunk / w.seqs);
      for (int64_t at = 0; at < w.tokens; at += count) {
        run(step.Make(at, std::min(count, w.tokens - at), config.vocab_size));
      }
      for (int r = 0; r < repeat + 2; ++r) {
        seconds.push_back(run(step.Make(w.tokens, 1, config.vocab_size)));
      }
      seconds.erase(seconds.begin(), seconds.begin() + 2);
    } else {
      const int64_t chunk = w.kind == 'p' ? w.tokens : kChunk;
      for (int64_t at = 0; at < w.tokens; at += chunk) {
        const Cost c = CostOf(config, 1, at, std::min(chunk, w.tokens - at));
        cost.flop += c.flop;
        cost.bytes += c.bytes;
      }
      for (int r = 0; r < repeat + 1; ++r) {
        double total = 0;
        for (int64_t at = 0; at < w.tokens; at += chunk) {
          total += run(step.Make(at, std::min(chunk, w.tokens - at), config.vocab_size));
        }
        if (r > 0) seconds.push_back(total);
      }
    }
    const kernels::MachineLimits after = kernels::MeasureLimits(*environment);
    const double t = Median(seconds);
    const double bandwidth = std::max(before.read_gb_per_s, after.read_gb_per_s);
    const double peak = std::max(before.matmul_gflop_per_s, after.matmul_gflop_per_s);
    const double by_bytes = cost.bytes * 1e-9 / bandwidth, by_flop = cost.flop * 1e-9 / peak;
    fmt::print(
        "{}{:<6} ×{:<3} {:8.2f} ms  {:8.1f} tok/s  {:6.1f} GB/s of {:.1f}  {:7.0f} GFLOP/s of {:.0f}"
        "  share of the nearer limit {:.2f}\n",
        w.kind, w.tokens, w.seqs, t * 1e3, (w.kind == 'd' ? w.seqs : w.tokens) / t,
        cost.bytes * 1e-9 / t, bandwidth, cost.flop * 1e-9 / t, peak,
        std::max(by_bytes, by_flop) / t);
    std::fflush(stdout);
  }
  return OkStatus();
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  tiercel::InitLogging();
  int repeat = 7;
  std::string path;
  std::vector<tiercel::Work> works;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--repeat") == 0 && i + 1 < argc) {
      repeat = std::max(1, std::atoi(argv[++i]));
    } else if (path.empty()) {
      path = argv[i];
    } else if (auto work = tiercel::ParseWork(argv[i])) {
      works.push_back(*work);
    } else {
      fmt::print(stderr, "step_benchmark: {}: {}\n", argv[i], work.error().message());
      return 2;
    }
  }
  if (path.empty()) {
    fmt::print(stderr, "usage: step_benchmark MODEL [--repeat N] [p512 | c16384 | d8x256 ...]\n");
    return 2;
  }
  if (works.empty()) {
    for (const char* text : {"p512", "p2048", "c16384", "d1x512", "d4x256", "d8x256", "d16x256",
                             "d32x256", "d16x3500"}) {
      works.push_back(*tiercel::ParseWork(text));
    }
  }
  const tiercel::Status status = tiercel::Main(path, works, repeat);
  if (!status.ok()) fmt::print(stderr, "step_benchmark: {}\n", status.message());
  return status.ok() ? 0 : 1;
}
