// step_benchmark MODEL [option ...] [work ...]: prefill and decode steps of a model without engine
// or server, greedy tokens included, each as a share of what the machine could do in this same run.
//
//   work   p512   prefill of 512 tokens in one step
//          c16384 prefill of 16384 tokens in chunks of 2048
//          d8x256 one decode step of 8 sequences with 256 tokens of context each
//          limits only what the machine can do (alone, it takes no model: MODEL is any word)
//
// A share is of the nearer limit: bytes ÷ bandwidth, or FLOPs ÷ the matmul peak and operations on INT8
// weights ÷ the INT8 peak together. Prints the median of the runs; with --json also one JSON
// object a line.
//
//   --repeat N    runs of each work (7)
//   --distinct N  sequences with a cache of their own (all). Beyond, a sequence shares all blocks
//                 but its last with the N-th before it: a load whose cache does not fit the memory
//                 can be measured, as long as N sequences' keys of a layer exceed the caches.
//   --read-mb N   memory over which the bandwidth is measured, beside the model's (537)
//   --graphs      replay captured decode steps (FULL_DECODE_ONLY) instead of recording each anew
//   --prefetch N  weight prefetch at barriers, N % of each matrix (within weight_prefetch.h's limits)
//   --dummy       random weights in the shape of MODEL/config.json
//   --int8, --int8-head  float weights of the layers, of the head become INT8 (dynamic)
//   --int4        the layers' become INT4, with --int8-head the head's as well
//   --fp8         the random weights of the layers are FP8
//   --unfused     quantization of activations as an operator of its own (fuse_norm_quant off)
//   --kv-int8     an INT8 cache; --kv-fp8 an FP8 one
//   --slow N      the last worker takes N % longer, as on a slow core: TIERCEL_CPU_SHARES can divide by speed
//   --ranks N     tensor parallel: N ranks of equal teams
//   --flashcomm N FlashComm in steps of more than N tokens (never)
//   --fuse-sum X  never, with-flashcomm (default) or always: ranks add up in one pass with the matmul
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/dummy_checkpoint.h"
#include "kernels/machine_limits.h"
#include "model/load_model.h"
#include "slow_worker.h"

#include "fp8_dummy.h"

namespace tiercel {
namespace {

constexpr int kBlockSize = 128;
constexpr int64_t kChunk = 2048;

struct Work {
  char kind = 'p';  // p, c, d, or l: limits
  int64_t seqs = 1;
  int64_t tokens = 0;  // prompt length, or context length of a decode
};

Expected<Work> ParseWork(std::string_view text) {
  Work work;
  if (text == "limits") return Work{.kind = 'l'};
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
  if (!ok) return Unexpected(InvalidArgument("work: expected p512, c16384, d8x256 or limits"));
  return work;
}

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
  return v[v.size() / 2];
}

// Owns the plain arrays of a StepBatch. Of the first `distinct` sequences each has its own blocks.
class Step {
 public:
  Step(int64_t seqs, int64_t distinct, int64_t max_tokens)
      : stride_((max_tokens + kBlockSize - 1) / kBlockSize) {
    block_table_.resize(seqs * stride_);
    int32_t next = 1;
    for (int64_t i = 0; i < std::ssize(block_table_); ++i) {
      const int64_t s = i / stride_, b = i % stride_;
      const bool own = s < distinct || b == stride_ - 1;
      block_table_[i] = own ? next++ : block_table_[s % distinct * stride_ + b];
    }
  }
  static int64_t Blocks(int64_t seqs, int64_t distinct, int64_t max_tokens) {
    const int64_t stride = (max_tokens + kBlockSize - 1) / kBlockSize;
    return 1 + seqs + std::min(seqs, distinct) * (stride - 1);
  }

  // Each of the first `seqs` sequences adds `count` tokens at `position`.
  model::StepBatch Make(int64_t seqs, int64_t position, int64_t count, int64_t vocab) {
    const int64_t rows = seqs * count;
    tokens_.resize(rows);
    positions_.resize(rows);
    query_start_.assign(1, 0);
    context_.clear();
    logit_rows_.clear();
    blocks_.clear();
    for (int64_t s = 0; s < seqs; ++s) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t p = position + i;
        tokens_[s * count + i] = static_cast<int32_t>((p * 7919 + s * 104729 + 13) % vocab);
        positions_[s * count + i] = static_cast<int32_t>(p);
      }
      query_start_.push_back(static_cast<int32_t>((s + 1) * count));
      context_.push_back(static_cast<int32_t>(position + count));
      logit_rows_.push_back(static_cast<int32_t>((s + 1) * count - 1));
      blocks_.push_back(block_table_.data() + s * stride_);
    }
    return {.token_ids = tokens_,
            .sampled = {},
            .positions = positions_,
            .query_start = query_start_,
            .context_len = context_,
            .block_tables = blocks_,
            .logit_rows = logit_rows_};
  }

 private:
  int64_t stride_;
  std::vector<int32_t> tokens_, positions_, query_start_, context_, block_table_, logit_rows_;
  std::vector<const int32_t*> blocks_;
};

struct Cost {
  double flop = 0;
  double int8_op = 0;  // on INT8 weights
  double bytes = 0;
};

// The embedding's and the head's bytes as they are held, and what multiplies the head and the layers.
struct Ends {
  double embedding = 0;  // of one that is not the head as well: a step reads some rows of it
  double head = 0;
  bool int8_head = false;
  bool fp8_layers = false;  // which BF16 multiplies
};

// What adding `count` tokens at `position` to each of `seqs` sequences takes, and DRAM bytes. Weights
// and cache count as they are held.
Cost CostOf(const checkpoint::ModelConfig& c, const model::CausalLm& lm, const Ends& ends, int64_t seqs,
            int64_t position, int64_t count) {
  const double layer = static_cast<double>(c.hidden_size) *
                           (2.0 * c.num_heads + 2.0 * c.num_kv_heads) * c.head_dim +
                       3.0 * c.hidden_size * c.intermediate_size;
  const double head = static_cast<double>(c.vocab_size) * c.hidden_size;
  const double rows = static_cast<double>(seqs * count);
  const double keys = static_cast<double>(seqs) * count * (position + (count + 1) / 2.0);
  const double kv_token = static_cast<double>(lm.KvBlockBytes(kBlockSize)) / kBlockSize;
  const double weights = layer * c.num_layers;
  const double read = static_cast<double>(lm.WeightBytes()) - ends.embedding;
  // What the layers' weights are short of two bytes each.
  const double int8_weights = ends.fp8_layers ? 0 : std::clamp(2 * weights - (read - ends.head), 0.0, weights);
  const double head_op = 2.0 * seqs * head;
  return {.flop = 2 * rows * (weights - int8_weights) + (ends.int8_head ? 0 : head_op) +
                  4.0 * keys * c.num_heads * c.head_dim * c.num_layers,
          .int8_op = 2 * rows * int8_weights + (ends.int8_head ? head_op : 0),
          .bytes = read + static_cast<double>(seqs) * (position + count) * kv_token};
}

struct Options {
  std::string path;
  int repeat = 7;
  int64_t distinct = 1 << 20;
  int64_t read_bytes = kernels::kReadBytes;
  int prefetch_percent = 0;
  bool graphs = false, dummy = false, json = false;
  int ranks = 1;
  int slow = 0;  // %
  int64_t flashcomm_rows = -1;
  model::FuseSum fuse_sum = model::FuseSum::kWithFlashComm;
  bool int8 = false, int4 = false, fp8 = false, int8_head = false, kv_int8 = false, kv_fp8 = false, unfused = false;
  std::vector<Work> works;
};

Ends EndsOf(const checkpoint::Checkpoint& checkpoint, const Options& options) {
  const checkpoint::ModelConfig& c = checkpoint.config();
  const auto bytes = [&](BlockFormat format, double of_one) {
    if (format != BlockFormat::kNone) of_one = static_cast<double>(StripBytes(format, c.hidden_size)) / kStripColumns / static_cast<double>(c.hidden_size);
    return of_one * static_cast<double>(c.vocab_size * c.hidden_size);
  };
  const BlockFormat embedding = checkpoint.BlockFormatOf("model.embed_tokens.weight");
  BlockFormat head = c.tie_word_embeddings ? embedding : checkpoint.BlockFormatOf("lm_head.weight");
  if (head == BlockFormat::kNone && options.int8_head && options.int4) head = BlockFormat::kI4;
  Ends ends;
  ends.fp8_layers = checkpoint.BlockFormatOf("model.layers.0.mlp.down_proj.weight") == BlockFormat::kF8;
  ends.int8_head = options.int8_head || head != BlockFormat::kNone;
  ends.head = bytes(head, options.int8_head ? 1 : sizeof(BF16));
  // A tied head that is quantized here leaves the embedding a table of its own.
  if (!c.tie_word_embeddings || options.int8_head) ends.embedding = bytes(embedding, sizeof(BF16));
  return ends;
}

// The model and what it takes to run steps of it.
class Bench {
 public:
  static Expected<std::unique_ptr<Bench>> Create(const Options& options) {
    auto bench = std::make_unique<Bench>();
    bench->options_ = options;
    ASSIGN_OR_RETURN(bench->environment_, kernels::Environment::Create({.ranks = options.ranks}));
    if (options.slow > 0) {
      bench->environment_->kernels = SlowWorker::Make(*bench->environment_->kernels, 1 + options.slow / 100.0);
    }
    const bool only_limits = std::all_of(options.works.begin(), options.works.end(),
                                         [](const Work& w) { return w.kind == 'l'; });
    if (only_limits) return bench;
    std::unique_ptr<checkpoint::Checkpoint> checkpoint;
    if (options.dummy) {
      ASSIGN_OR_RETURN(checkpoint, checkpoint::OpenDummyCheckpoint(options.path, "", 0));
      if (options.fp8) checkpoint = std::make_unique<Fp8Dummy>(std::move(checkpoint));
    } else {
      ASSIGN_OR_RETURN(checkpoint, checkpoint::Checkpoint::Open(options.path));
    }
    bench->config_ = checkpoint->config();
    bench->ends_ = EndsOf(*checkpoint, options);
    model::LoadOptions load;
    if (options.graphs) load.graph.mode = model::GraphMode::kFullDecodeOnly;
    load.graph.fuse_norm_quant = !options.unfused;
    load.graph.flashcomm_rows = options.flashcomm_rows;
    load.graph.fuse_sum = options.fuse_sum;
    load.prefetch.enabled = options.prefetch_percent > 0;
    if (options.int8) load.weights.quantize = checkpoint::QuantizeTo::kInt8;
    if (options.int4) load.weights.quantize = checkpoint::QuantizeTo::kInt4;
    load.weights.quantize_lm_head = options.int8_head;
    if (options.kv_int8) load.weights.kv_dtype = DType::kI8;
    if (options.kv_fp8) load.weights.kv_dtype = DType::kF8E4M3;
    for (double* ratio : {&load.prefetch.qkv, &load.prefetch.o, &load.prefetch.gate_up,
                          &load.prefetch.down}) {
      *ratio = std::min(options.prefetch_percent, 100) / 100.0;
    }
    const double begin = Now();
    ASSIGN_OR_RETURN(bench->lm_, model::LoadModel(*checkpoint, load, bench->environment_.get(),
                                                  [](int64_t, int64_t) {}));
    fmt::print("{}: loaded in {:.2f} s, {:.2f} GB of weights, {} workers, {}\n", options.path,
               Now() - begin, bench->lm_->WeightBytes() * 1e-9, bench->lm_->workers(),
               bench->environment_->kernels->detail);
    RETURN_IF_ERROR(bench->Prepare());
    return bench;
  }

  void Measure(const Work& work) {
    const kernels::MachineLimits before = kernels::MeasureLimits(*environment_, options_.read_bytes);
    if (work.kind == 'l') return PrintLimits(before);
    std::vector<double> seconds;
    const Cost cost = work.kind == 'd' ? Decode(work, &seconds) : Prefill(work, &seconds);
    const kernels::MachineLimits after = kernels::MeasureLimits(*environment_, options_.read_bytes);
    Print(work, cost, std::move(seconds),
          {std::max(before.read_gb_per_s, after.read_gb_per_s),
           std::max(before.matmul_gflop_per_s, after.matmul_gflop_per_s),
           std::max(before.int8_gop_per_s, after.int8_gop_per_s)});
  }

 private:
  Status Prepare() {
    int64_t blocks = 2, rows = 1, seqs = 1;
    for (const Work& w : options_.works) {
      blocks = std::max(blocks, Step::Blocks(w.seqs, options_.distinct, w.tokens + 1));
      rows = std::max({rows, w.seqs, w.kind == 'p' ? w.tokens : kChunk});
      seqs = std::max(seqs, w.seqs);
    }
    return lm_->Prepare({.num_blocks = blocks, .block_size = kBlockSize},
                        {.max_rows = rows, .max_seqs = seqs, .logit_group_rows = seqs});
  }

  double Run(const model::StepBatch& batch) {
    const double begin = Now();
    const Status status = lm_->Run(batch, [&](const model::LogitGroup& group, int worker) {
      float max;
      for (int64_t r = worker; r < group.count; r += lm_->workers()) {
        environment_->kernels->rows.argmax(group.row(group.first + r), config_.vocab_size, &max);
      }
    });
    CHECK_MSG(status.ok(), "{}", status.message());
    return Now() - begin;
  }

  Cost Decode(const Work& w, std::vector<double>* seconds) {
    Step step(w.seqs, options_.distinct, w.tokens + 1);
    // The context is computed first: memory that nothing has written is not read from DRAM.
    const int64_t seqs = std::min(w.seqs, options_.distinct);
    const int64_t count = std::max<int64_t>(1, kChunk / seqs);
    for (int64_t at = 0; at < w.tokens; at += count) {
      Run(step.Make(seqs, at, std::min(count, w.tokens - at), config_.vocab_size));
    }
    for (int r = -2; r < options_.repeat; ++r) {
      const double t = Run(step.Make(w.seqs, w.tokens, 1, config_.vocab_size));
      if (r >= 0) seconds->push_back(t);
    }
    return CostOf(config_, *lm_, ends_, w.seqs, w.tokens, 1);
  }

  Cost Prefill(const Work& w, std::vector<double>* seconds) {
    Step step(1, 1, w.tokens + 1);
    const int64_t chunk = w.kind == 'p' ? w.tokens : kChunk;
    Cost cost;
    for (int64_t at = 0; at < w.tokens; at += chunk) {
      const Cost c = CostOf(config_, *lm_, ends_, 1, at, std::min(chunk, w.tokens - at));
      cost.flop += c.flop;
      cost.int8_op += c.int8_op;
      cost.bytes += c.bytes;
    }
    for (int r = -1; r < options_.repeat; ++r) {
      double total = 0;
      for (int64_t at = 0; at < w.tokens; at += chunk) {
        total += Run(step.Make(1, at, std::min(chunk, w.tokens - at), config_.vocab_size));
      }
      if (r >= 0) seconds->push_back(total);
    }
    return cost;
  }

  void PrintLimits(const kernels::MachineLimits& limits) const {
    fmt::print("limits: read {:.1f} GB/s, matmul {:.0f} GFLOP/s\n", limits.read_gb_per_s,
               limits.matmul_gflop_per_s);
    if (options_.json) {
      fmt::print("{{\"row\": \"limits\", \"read_gb_s\": {:.2f}, \"gflop_s\": {:.1f}, \"int8_gop_s\": {:.1f}}}\n",
                 limits.read_gb_per_s, limits.matmul_gflop_per_s, limits.int8_gop_per_s);
    }
    std::fflush(stdout);
  }

  void Print(const Work& w, const Cost& cost, std::vector<double> seconds,
             const kernels::MachineLimits& limits) const {
    const double t = Median(std::move(seconds));
    const double bandwidth = limits.read_gb_per_s, peak = limits.matmul_gflop_per_s;
    const double int8_peak = limits.int8_gop_per_s;
    const double by_bytes = cost.bytes * 1e-9 / bandwidth;
    const double by_op = cost.flop * 1e-9 / peak + cost.int8_op * 1e-9 / int8_peak;
    const double rate = static_cast<double>(w.kind == 'd' ? w.seqs : w.tokens) / t;
    const double share = std::max(by_bytes, by_op) / t;
    fmt::print(
        "{}{:<6} ×{:<3} {:8.2f} ms  {:8.1f} tok/s  {:6.1f} GB/s of {:.1f}  {:7.0f} GFLOP/s of {:.0f}",
        w.kind, w.tokens, w.seqs, t * 1e3, rate, cost.bytes * 1e-9 / t, bandwidth,
        cost.flop * 1e-9 / t, peak);
    if (cost.int8_op > 0) {
      fmt::print("  {:7.0f} GOP/s in INT8 of {:.0f}", cost.int8_op * 1e-9 / t, int8_peak);
    }
    fmt::print("  share of the nearer limit {:.2f}\n", share);
    if (options_.json) {
      fmt::print("{{\"row\": \"{}\", \"ms\": {:.3f}, \"tok_s\": {:.2f}, \"share\": {:.4f}, "
                 "\"bytes\": {:.0f}, \"flop\": {:.0f}, \"int8_op\": {:.0f}, "
                 "\"read_gb_s\": {:.2f}, \"gflop_s\": {:.1f}, \"int8_gop_s\": {:.1f}}}\n",
                 w.kind == 'd' ? fmt::format("d{}x{}", w.seqs, w.tokens)
                               : fmt::format("{}{}", w.kind, w.tokens),
                 t * 1e3, rate, share, cost.bytes, cost.flop, cost.int8_op, bandwidth, peak, int8_peak);
    }
    std::fflush(stdout);
  }

  Options options_;
  std::unique_ptr<kernels::Environment> environment_;
  Ends ends_;
  checkpoint::ModelConfig config_;
  std::unique_ptr<model::CausalLm> lm_;
};

Expected<Options> ParseArguments(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto number = [&] { return i + 1 < argc ? std::max(1, std::atoi(argv[++i])) : 1; };
    if (word == "--repeat") {
      options.repeat = number();
    } else if (word == "--ranks") {
      options.ranks = number();
    } else if (word == "--flashcomm") {
      options.flashcomm_rows = number();
    } else if (word == "--fuse-sum" && i + 1 < argc) {
      const std::string_view when = argv[++i];
      options.fuse_sum = when == "never"    ? model::FuseSum::kNever
                         : when == "always" ? model::FuseSum::kAlways
                                            : model::FuseSum::kWithFlashComm;
    } else if (word == "--slow") {
      options.slow = number();
    } else if (word == "--distinct") {
      options.distinct = number();
    } else if (word == "--graphs") {
      options.graphs = true;
    } else if (word == "--read-mb") {
      options.read_bytes = int64_t{number()} * 1'000'000;
    } else if (word == "--prefetch") {
      options.prefetch_percent = number();
    } else if (word == "--dummy") {
      options.dummy = true;
    } else if (word == "--int8") {
      options.int8 = true;
    } else if (word == "--int4") {
      options.int4 = true;
    } else if (word == "--fp8") {
      options.fp8 = true;
    } else if (word == "--int8-head") {
      options.int8_head = true;
    } else if (word == "--unfused") {
      options.unfused = true;
    } else if (word == "--kv-int8") {
      options.kv_int8 = true;
    } else if (word == "--kv-fp8") {
      options.kv_fp8 = true;
    } else if (word == "--json") {
      options.json = true;
    } else if (options.path.empty()) {
      options.path = word;
    } else {
      ASSIGN_OR_RETURN(const Work work, ParseWork(word));
      options.works.push_back(work);
    }
  }
  if (options.path.empty()) return Unexpected(InvalidArgument("name a model's folder"));
  if (options.works.empty()) {
    for (const char* text : {"p512", "p2048", "c16384", "d1x512", "d4x256", "d8x256", "d16x256",
                             "d32x256", "d16x3500"}) {
      options.works.push_back(*ParseWork(text));
    }
  }
  return options;
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  tiercel::InitLogging();
  const auto options = tiercel::ParseArguments(argc, argv);
  if (!options) {
    fmt::print(stderr, "step_benchmark: {}\n", options.error().message());
    return 2;
  }
  const auto bench = tiercel::Bench::Create(*options);
  if (!bench) {
    fmt::print(stderr, "step_benchmark: {}\n", bench.error().message());
    return 1;
  }
  for (const tiercel::Work& work : options->works) (*bench)->Measure(work);
  return 0;
}
