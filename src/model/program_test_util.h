// For tests of Programs: a small model whose linears are quantized as a test wants them, and memory for
// its steps.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/dummy_checkpoint.h"
#include "kernels/environment.h"
#include "model/qwen3.h"

namespace tiercel::model {

// How the layers' linears are quantized. kMixed: q, k and v and gate and up in two ways each (so each is
// two matrices), o per token, down static.
enum class Format { kBF16, kPerToken, kStatic, kMixed, kInt4 };

// Every k is a multiple of what the kernels take at a time: no buffer has a pad that must stay finite.
class SmallModel {
 public:
  struct Options {
    Format format = Format::kBF16;
    int64_t num_layers = 2;
    int64_t num_kv_heads = 2;  // of 6 query heads
    int workers = 2;  // of each rank
    int ranks = 1;  // of each process
    std::vector<int> shares = {};  // of the workers of all ranks; empty: they are equal
    comm::Process process = {};  // of a job of so many, which only records
    int64_t max_rows = 64;
    int64_t max_seqs = 8;
    int64_t max_context = 64;
    checkpoint::Head head = checkpoint::Head::kLogits;
    std::string isa = "scalar";
  };
  static constexpr int kBlockSize = 32;

  explicit SmallModel(const Options& options)
      : config_(ConfigOf(options)),
        rope_(MakeRopeTable(config_.rope, config_.head_dim, config_.max_position_embeddings)),
        blocks_of_sequence_((options.max_context + kBlockSize - 1) / kBlockSize),
        num_blocks_(1 + options.max_seqs * blocks_of_sequence_) {
    auto environment = kernels::Environment::Create(
        {.threads = options.workers * options.ranks, .isa = options.isa, .pin = false, .ranks = options.ranks});
    EXPECT_TRUE(environment.has_value()) << environment.error();
    environment_ = std::move(*environment);
    WeightOptions load;
    load.head = options.head;
    load.process = options.process;
    load.shares = options.shares;
    floats_ = Load(load);
    if (options.format != Format::kBF16) {
      load.quantize = options.format == Format::kInt4 ? checkpoint::QuantizeTo::kInt4 : checkpoint::QuantizeTo::kInt8;
      load.quantize_lm_head = true;
      quantized_ = Load(load);
      for (size_t r = 0; r < quantized_.size(); ++r) {
        for (size_t i = 0; i < quantized_[r].layers.size(); ++i) {
          Requantize(options.format, floats_[r].layers[i], &quantized_[r].layers[i]);
        }
      }
    }
    weights_ = options.format == Format::kBF16 ? &floats_ : &quantized_;
    Allocate(options);
  }

  void Record(const StepShape& shape, Program* program, int rank = 0) const {
    RecordForward(parts_[static_cast<size_t>(rank)], weights(rank), rope_, activations(rank), shape, program);
  }
  // What computes the further logit rows, from `first` on.
  void RecordRest(const StepShape& shape, int64_t first, Program* program) const {
    RecordHead(config_, weights(), rope_, activations(), shape, first, program);
  }

  const checkpoint::ModelConfig& config() const { return config_; }
  const Weights& weights(int rank = 0) const { return (*weights_)[static_cast<size_t>(rank)]; }
  const Activations& activations(int rank = 0) const { return memory_[static_cast<size_t>(rank)].get(); }
  const kernels::KernelTable& kernels() const { return *environment_->kernels; }
  platform::WorkerTeam& team() const { return *environment_->team; }
  int64_t blocks_of_sequence() const { return blocks_of_sequence_; }
  int64_t num_blocks() const { return num_blocks_; }

 private:
  static checkpoint::ModelConfig ConfigOf(const Options& options) {
    checkpoint::ModelConfig config;
    config.hidden_size = 64;
    config.num_layers = options.num_layers;
    config.num_heads = 6;
    config.num_kv_heads = options.num_kv_heads;
    config.head_dim = 32;
    config.intermediate_size = 192;
    if (options.format == Format::kInt4) {  // whole blocks of inputs for each of two or three ranks
      config.num_heads = 12;
      config.head_dim = 64;
      config.intermediate_size = 768;
    }
    config.vocab_size = 64;
    config.max_position_embeddings = options.max_context;
    config.qk_norm = true;
    config.tie_word_embeddings = options.head == checkpoint::Head::kLogits;
    return config;
  }

  std::vector<Weights> Load(const WeightOptions& options) const {
    auto weights = LoadRanks(*checkpoint::MakeDummyCheckpoint(config_, {}, 1), options, *environment_->team,
                             [](int64_t, int64_t) {});
    EXPECT_TRUE(weights.has_value());
    return std::move(*weights);
  }

  void Allocate(const Options& options) {
    memory_.resize(static_cast<size_t>(options.ranks));
    std::vector<ActivationMemory*> memories;
    const auto places = comm::RankPlaces::Of(options.process, 1, options.ranks);
    std::vector<int64_t> head_columns;
    int64_t all_columns = 0;
    for (int r = 0; r < places.ranks(); ++r) {
      head_columns.push_back(options.head == checkpoint::Head::kLogits ? HeadColumnsOf(config_, {r, places.ranks()}) : 0);
      all_columns += head_columns.back();
    }
    for (int r = 0; r < options.ranks; ++r) {
      const Rank rank = places.RankHere(r);
      parts_.push_back(PartOf(config_, rank));
      auto memory = ActivationMemory::Allocate(
          parts_.back(), weights(r), kernels(), {options.workers, rank, places.first_here(), places.ranks() > 1 ? all_columns : 0},
          {.num_blocks = num_blocks_, .block_size = kBlockSize},
          {.max_rows = options.max_rows, .max_seqs = options.max_seqs, .logit_group_rows = options.max_rows,
           .max_context = options.max_context});
      EXPECT_TRUE(memory.has_value());
      memory_[static_cast<size_t>(r)] = std::move(*memory);
      memories.push_back(&memory_[static_cast<size_t>(r)]);
    }
    comm::Transport* const transport = places.process.count > 1 ? &transport_ : nullptr;
    EXPECT_TRUE(ActivationMemory::Join(memories, head_columns, places, transport, &buffers_).ok());
  }

  // `linear`, whose inputs are quantized per token, with one scale for inputs that are about `size` large.
  static Linear Static(Linear linear, float size) {
    linear.input = {checkpoint::InputKind::kStatic, size / 32, 3, {}};
    for (float& scale : linear.scale) scale *= linear.input.scale;
    return linear;
  }

  // Sizes as they come of weights with a standard deviation of 0.02.
  static void Requantize(Format format, const LayerWeights& floats, LayerWeights* layer) {
    constexpr float kNormed = 1, kAttention = 0.06f, kInner = 0.006f;
    if (format == Format::kStatic) {
      layer->qkv = Static(layer->qkv, kNormed);
      layer->o = Static(layer->o, kAttention);
      layer->gate_up = Static(layer->gate_up, kNormed);
      layer->down = Static(layer->down, kInner);
    } else if (format == Format::kMixed) {
      // The sum of two whole matrices: as good for a test as two with zeros in each other's columns.
      layer->qkv.more = {floats.qkv};
      Linear gate_up = Static(layer->gate_up, kNormed);
      gate_up.more = {layer->gate_up};
      layer->gate_up = std::move(gate_up);
      layer->down = Static(layer->down, kInner);
    }
  }

  const checkpoint::ModelConfig config_;
  const RopeTable rope_;
  const int64_t blocks_of_sequence_;
  const int64_t num_blocks_;
  std::unique_ptr<kernels::Environment> environment_;
  std::vector<Weights> floats_, quantized_;  // of each rank
  const std::vector<Weights>* weights_ = nullptr;
  std::vector<checkpoint::ModelConfig> parts_;
  std::vector<ActivationMemory> memory_;
  RankBuffers buffers_;

  // Programs that are recorded need to know of one.
  struct NoTransport final : comm::Transport {
    comm::Process process() const override { return {}; }
    std::string NameOf(int) const override { return {}; }
    Status Exchange(std::span<const comm::Transfer>, std::span<const comm::Transfer>, Patience) override { return OkStatus(); }
    Status Post(std::span<const comm::Transfer>) override { return OkStatus(); }
    Status Await() override { return OkStatus(); }
    bool failed() const override { return false; }
    Status Check() const override { return OkStatus(); }
  } transport_;
};

}  // namespace tiercel::model
