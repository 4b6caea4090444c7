#include "model/layer_calibration.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "checkpoint/tensor_reader.h"
#include "model/activations.h"
#include "model/input_products.h"
#include "model/program.h"
#include "model/qwen3.h"
#include "model/rope.h"
#include "model/weights.h"

namespace tiercel::model {
namespace {

constexpr int kBlockSize = 128;
constexpr int64_t kHeadRows = 16;  // of the embedding stand for the head, which is not looked at

// One layer of a checkpoint as a model of its own.
class OneLayer final : public checkpoint::Checkpoint {
 public:
  OneLayer(const checkpoint::Checkpoint& base, int64_t layer)
      : base_(base), config_(base.config()), prefix_(fmt::format("model.layers.{}.", layer)) {
    config_.num_layers = 1;
    config_.vocab_size = kHeadRows;
    config_.tie_word_embeddings = true;
  }

  const checkpoint::ModelConfig& config() const override { return config_; }
  const checkpoint::GenerationConfig& generation_config() const override { return base_.generation_config(); }
  std::optional<checkpoint::TensorInfo> Find(const std::string& name) const override {
    if (name == "lm_head.weight") return std::nullopt;
    std::optional<checkpoint::TensorInfo> info = base_.Find(NameIn(name));
    if (info && name == "model.embed_tokens.weight") info->shape[0] = kHeadRows;
    return info;
  }
  std::vector<std::string> Names() const override { return base_.Names(); }
  int64_t FileBytes() const override { return base_.FileBytes(); }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const override {
    return base_.ReadRows(NameIn(name), begin, end, out);
  }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const override {
    return base_.ReadRows(NameIn(name), begin, end, out);
  }
  const BF16* MappedBF16(const std::string& name) const override {
    return base_.MappedBF16(NameIn(name));
  }
  void WillNeed(const std::string& name) const override { base_.WillNeed(NameIn(name)); }
  void DontNeed(const std::string& name) const override { base_.DontNeed(NameIn(name)); }

 private:
  std::string NameIn(const std::string& name) const {
    constexpr std::string_view kLayer = "model.layers.0.";
    return name.starts_with(kLayer) ? prefix_ + name.substr(kLayer.size()) : name;
  }

  const checkpoint::Checkpoint& base_;
  checkpoint::ModelConfig config_;
  const std::string prefix_;
};

// One token in so many goes into the samples, the first of each sequence among them: it often has
// the largest outliers.
constexpr int64_t kSampleEvery = 16;

// For n channels.
void Widen(const BF16* x, int64_t n, float* min, float* max) {
  for (int64_t i = 0; i < n; ++i) {
    const float value = ToFloat(x[i]);
    min[i] = std::min(min[i], value);
    max[i] = std::max(max[i], value);
  }
}

void Prepare(int64_t n, ChannelRanges* ranges) {
  ranges->min.resize(n, std::numeric_limits<float>::max());
  ranges->max.resize(n, std::numeric_limits<float>::lowest());
}

// Looks at the inputs of the layer's matmuls as they are computed, and at the cache.
struct Observer {
  const kernels::KernelTable* kernels = nullptr;
  const LayerWeights* layer = nullptr;
  bool keeps_all = false;
  LayerInputs inputs;
  std::map<LinearInputs*, std::vector<BF16>> all;  // of the current sequence, if it keeps them

  void Look(const kernels::MatmulArgs& args) {
    LinearInputs* const found = args.weight == &layer->qkv.weight       ? &inputs.qkv
                                : args.weight == &layer->o.weight       ? &inputs.o
                                : args.weight == &layer->gate_up.weight ? &inputs.gate_up
                                : args.weight == &layer->down.weight    ? &inputs.down
                                                                        : nullptr;
    if (found == nullptr) return;
    const int64_t k = args.weight->k;
    std::vector<BF16>* const kept = keeps_all ? &all[found] : nullptr;
    Prepare(k, &found->ranges);
    for (int64_t r = 0; r < args.rows; ++r) {
      const BF16* const x = args.x + r * args.ldx;
      Widen(x, k, found->ranges.min.data(), found->ranges.max.data());
      if (r % kSampleEvery == 0) found->sample.insert(found->sample.end(), x, x + k);
      if (kept != nullptr) kept->insert(kept->end(), x, x + k);
    }
  }

  // Those of the sequence that has run are taken into the products.
  Status AddProducts(kernels::Environment* environment) {
    for (auto& [linear, x] : all) {
      const int64_t k = std::ssize(linear->ranges.min);
      linear->products.resize(static_cast<size_t>(k * k), 0.0f);
      RETURN_IF_ERROR(AddInputProducts(x, k, environment, &linear->products));
      x.clear();
    }
    return OkStatus();
  }

  // The KV heads of a share; inputs.k and v have room for all.
  void Look(const kernels::AttentionArgs& args, Share share) {
    const kernels::KvLayout& layout = args.layout;
    const int64_t d = layout.head_dim;
    std::vector<BF16> k(d), v(d);
    const Range heads = SplitRange(layout.num_kv_heads, 1, share);
    for (int64_t head = heads.begin; head < heads.end; ++head) {
      for (int64_t token = 0; token < args.context_len[0]; ++token) {
        const int slot = static_cast<int>(token % layout.block_size);
        const BF16* const at =
            static_cast<const BF16*>(args.kv) +
            layout.HeadOffset(args.block_table[token / layout.block_size], static_cast<int>(head));
        for (int i = 0; i < d; ++i) {
          k[i] = at[layout.KeyOffset(slot, i)];
          v[i] = at[layout.ValueOffset(slot, i)];
        }
        Widen(k.data(), d, &inputs.k.min[head * d], &inputs.k.max[head * d]);
        Widen(v.data(), d, &inputs.v.min[head * d], &inputs.v.max[head * d]);
      }
    }
  }
};

// Kernels are plain functions: the one that replaces matmul finds its observer here, on each worker
// for the time of one replay.
thread_local Observer* observer_of_thread = nullptr;

void ObservedMatmul(const kernels::MatmulArgs& args, Share share) {
  if (share.index == 0) observer_of_thread->Look(args);
  observer_of_thread->kernels->matmul(args, share);
}

void ObservedAttention(const kernels::AttentionArgs& args, Share share) {
  observer_of_thread->Look(args, share);
  observer_of_thread->kernels->attention(args, share);
}

// Everything of one sequence that is not the layer's: a prompt of `tokens` rows from position 0.
void FillInputs(int64_t tokens, const Activations& a) {
  std::iota(a.token_ids, a.token_ids + tokens, 0);
  std::iota(a.positions, a.positions + tokens, 0);
  std::iota(a.logit_rows, a.logit_rows + tokens, 0);
  std::iota(a.kv_slot, a.kv_slot + tokens, int64_t{kBlockSize});  // block 0 is never used
  a.query_start[0] = 0;
  a.query_start[1] = static_cast<int32_t>(tokens);
  a.context_len[0] = static_cast<int32_t>(tokens);
  std::iota(a.block_table, a.block_table + (tokens + kBlockSize - 1) / kBlockSize, 1);
}

}  // namespace

std::vector<float> ChannelRanges::Largest() const {
  std::vector<float> largest(min.size());
  for (size_t i = 0; i < largest.size(); ++i) {
    largest[i] = std::max(std::fabs(min[i]), std::fabs(max[i]));
  }
  return largest;
}

Expected<std::unique_ptr<LayerCalibration>> LayerCalibration::Create(
    const checkpoint::Checkpoint& checkpoint, kernels::Environment* environment,
    std::vector<std::vector<int32_t>> sequences) {
  const checkpoint::ModelConfig& config = checkpoint.config();
  const std::string name = "model.embed_tokens.weight";
  RETURN_IF_ERROR(checkpoint::CheckTensor(checkpoint, name, {config.vocab_size, config.hidden_size}));
  if (config.vocab_size < kHeadRows) {
    return Unexpected(Unimplemented("vocab_size: found {}, expected at least {}",
                                    config.vocab_size, kHeadRows));
  }
  std::unique_ptr<LayerCalibration> calibration(new LayerCalibration(checkpoint, environment));
  checkpoint::RowReader embedding(checkpoint, name, config.hidden_size, {0, config.hidden_size});
  for (const std::vector<int32_t>& tokens : sequences) {
    CHECK(!tokens.empty() && std::ssize(tokens) <= kMaxTokens);
    std::vector<BF16> hidden(tokens.size() * static_cast<size_t>(config.hidden_size));
    for (size_t t = 0; t < tokens.size(); ++t) {
      CHECK(tokens[t] >= 0 && tokens[t] < config.vocab_size);
      RETURN_IF_ERROR(embedding.Read(
          tokens[t], hidden.data() + static_cast<int64_t>(t) * config.hidden_size));
    }
    calibration->hidden_.push_back(std::move(hidden));
  }
  return calibration;
}

Expected<LayerInputs> LayerCalibration::NextLayer(bool products) {
  CHECK_LT(layer_, checkpoint_.config().num_layers);
  const OneLayer checkpoint(checkpoint_, layer_++);
  const checkpoint::ModelConfig& config = checkpoint.config();
  platform::WorkerTeam& team = *environment_->team;
  ASSIGN_OR_RETURN(Weights weights, LoadWeights(checkpoint, {}, team, [](int64_t, int64_t) {}));
  const RunLimits limits{.max_rows = kMaxTokens,
                         .max_seqs = 1,
                         .logit_group_rows = kMaxTokens,
                         .max_context = kMaxTokens};
  const KvOptions kv{.num_blocks = kMaxTokens / kBlockSize + 1, .block_size = kBlockSize};
  ASSIGN_OR_RETURN(const ActivationMemory memory,
                   ActivationMemory::Allocate(config, weights, *environment_->kernels,
                                              {team.size()}, kv, limits));
  const Activations& a = memory.get();
  const RopeTable rope =
      MakeRopeTable(config.rope, config.head_dim, config.max_position_embeddings);
  Observer observer;
  observer.kernels = environment_->kernels;
  observer.layer = &weights.layers[0];
  observer.keeps_all = products;
  Prepare(config.num_kv_heads * config.head_dim, &observer.inputs.k);
  Prepare(config.num_kv_heads * config.head_dim, &observer.inputs.v);
  kernels::KernelTable kernels = *environment_->kernels;
  kernels.matmul = ObservedMatmul;
  kernels.attention = ObservedAttention;
  Program program;
  for (std::vector<BF16>& hidden : hidden_) {
    const int64_t tokens = std::ssize(hidden) / config.hidden_size;
    FillInputs(tokens, a);
    weights.embedding = hidden.data();  // token t's embedding is its residual stream so far
    RecordForward(config, weights, rope, a,
                  {.rows = tokens, .seqs = 1, .logit_rows = tokens, .head_rows = tokens},
                  &program);
    team.Run([&](int worker) {
      observer_of_thread = &observer;
      program.Replay(kernels, team, worker);
      observer_of_thread = nullptr;
    });
    RETURN_IF_ERROR(observer.AddProducts(environment_));
    for (int64_t t = 0; t < tokens; ++t) {
      std::copy_n(a.hidden.data + t * a.hidden.stride, config.hidden_size,
                  hidden.data() + t * config.hidden_size);
    }
  }
  return std::move(observer.inputs);
}

}  // namespace tiercel::model
