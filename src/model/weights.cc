#include "model/weights.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "kernels/attention_work.h"
#include "model/packing.h"
#include "model/tensor_reader.h"

namespace tiercel::model {
namespace {

constexpr int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Where a packed column comes from: row `row` of part `part`, or zeros (part < 0).
struct Place {
  int part = -1;
  int64_t row = 0;
};

// The fused column orders of the forward pass.
enum class Order { kPlain, kQkvByGroup, kGateUp };

Place PlaceOf(Order order, const ModelConfig& config, int64_t column, int64_t rows_of_plain) {
  switch (order) {
    case Order::kPlain:
      return column < rows_of_plain ? Place{0, column} : Place{};
    case Order::kQkvByGroup: {
      const int64_t heads = config.num_heads / config.num_kv_heads;
      const int64_t width = (heads + 2) * config.head_dim;
      const int64_t group = column / width;
      const int64_t head = column % width / config.head_dim;
      const int64_t d = column % config.head_dim;
      if (head < heads) return {0, (group * heads + head) * config.head_dim + d};
      return {head == heads ? 1 : 2, group * config.head_dim + d};
    }
    case Order::kGateUp: {
      const int64_t feature = column / (2 * kColumnGroup) * kColumnGroup + column % kColumnGroup;
      if (feature >= config.intermediate_size) return {};
      return {column % (2 * kColumnGroup) < kColumnGroup ? 0 : 1, feature};
    }
  }
  return {};
}

// One matrix to pack: its parts in the checkpoint and where it goes.
struct Job {
  Linear* linear = nullptr;  // null: the embedding table, copied row by row
  Order order = Order::kPlain;
  std::vector<std::string> parts;  // names without ".weight"
  std::vector<int64_t> part_rows;
  int64_t k = 0;
  int64_t offset = 0;  // bytes in the buffer
  int64_t bytes = 0;
};

class Loader {
 public:
  Loader(const Checkpoint& checkpoint, platform::WorkerTeam& team)
      : checkpoint_(checkpoint), config_(checkpoint.config()), team_(team) {}

  Expected<Weights> Load(LoadProgress progress) {
    weights_.layers.resize(config_.num_layers);
    RETURN_IF_ERROR(PlanEnds());
    for (int64_t i = 0; i < config_.num_layers; ++i) RETURN_IF_ERROR(PlanLayer(i));
    ASSIGN_OR_RETURN(weights_.buffer, platform::Buffer::Allocate(total_));
    weights_.bytes += total_;
    RETURN_IF_ERROR(Pack(progress));
    return std::move(weights_);
  }

 private:
  Status PlanEnds();
  Status PlanLayer(int64_t i);
  Status Plan(Linear* linear, Order order, std::vector<std::string> parts,
              std::vector<int64_t> part_rows, int64_t k, bool has_bias);
  Status ReadVector(const std::string& name, int64_t n, std::vector<float>* out);
  Status Pack(LoadProgress progress);
  Status PackOne(const Job& job, int worker) const;

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  platform::WorkerTeam& team_;
  Weights weights_;
  std::vector<Job> jobs_;
  int64_t total_ = 0;
};

Status Loader::PlanEnds() {
  const std::string embedding = "model.embed_tokens";
  const bool has_head = checkpoint_.Find("lm_head.weight").has_value();
  const int64_t hidden = config_.hidden_size;
  if (config_.tie_word_embeddings) {
    if (has_head) {
      LOG_WARNING("tie_word_embeddings is true: lm_head.weight in the checkpoint is ignored");
    }
    RETURN_IF_ERROR(Plan(&weights_.lm_head, Order::kPlain, {embedding}, {config_.vocab_size},
                         hidden, false));
  } else {
    if (!has_head) {
      const Status missing = CheckTensor(checkpoint_, "lm_head.weight",
                                         {config_.vocab_size, hidden});
      return NotFound("{}: tie_word_embeddings is false in config.json, so lm_head.weight must "
                      "be there (set it to true if the model shares its embeddings)",
                      missing.message());
    }
    RETURN_IF_ERROR(Plan(nullptr, Order::kPlain, {embedding}, {config_.vocab_size}, hidden, false));
    RETURN_IF_ERROR(Plan(&weights_.lm_head, Order::kPlain, {"lm_head"}, {config_.vocab_size},
                         hidden, false));
  }
  return ReadVector("model.norm.weight", hidden, &weights_.final_norm);
}

Status Loader::PlanLayer(int64_t i) {
  const ModelConfig& c = config_;
  LayerWeights& layer = weights_.layers[i];
  const std::string prefix = fmt::format("model.layers.{}.", i);
  const std::string attention = prefix + "self_attn.";
  const std::string mlp = prefix + "mlp.";
  const int64_t q_rows = c.num_heads * c.head_dim;
  const int64_t kv_rows = c.num_kv_heads * c.head_dim;
  RETURN_IF_ERROR(
      ReadVector(prefix + "input_layernorm.weight", c.hidden_size, &layer.input_norm));
  RETURN_IF_ERROR(Plan(&layer.qkv, Order::kQkvByGroup,
                       {attention + "q_proj", attention + "k_proj", attention + "v_proj"},
                       {q_rows, kv_rows, kv_rows}, c.hidden_size, c.qkv_bias));
  if (c.qk_norm) {
    RETURN_IF_ERROR(ReadVector(attention + "q_norm.weight", c.head_dim, &layer.q_norm));
    RETURN_IF_ERROR(ReadVector(attention + "k_norm.weight", c.head_dim, &layer.k_norm));
  }
  RETURN_IF_ERROR(Plan(&layer.o, Order::kPlain, {attention + "o_proj"}, {c.hidden_size}, q_rows,
                       c.o_bias));
  RETURN_IF_ERROR(ReadVector(prefix + "post_attention_layernorm.weight", c.hidden_size,
                             &layer.post_attention_norm));
  RETURN_IF_ERROR(Plan(&layer.gate_up, Order::kGateUp, {mlp + "gate_proj", mlp + "up_proj"},
                       {c.intermediate_size, c.intermediate_size}, c.hidden_size, c.mlp_bias));
  return Plan(&layer.down, Order::kPlain, {mlp + "down_proj"}, {c.hidden_size},
              c.intermediate_size, c.mlp_bias);
}

// Checks the parts' shapes, fills in the descriptor and reads the bias.
Status Loader::Plan(Linear* linear, Order order, std::vector<std::string> parts,
                    std::vector<int64_t> part_rows, int64_t k, bool has_bias) {
  for (size_t i = 0; i < parts.size(); ++i) {
    RETURN_IF_ERROR(CheckTensor(checkpoint_, parts[i] + ".weight", {part_rows[i], k}));
  }
  Job job{linear, order, std::move(parts), std::move(part_rows), k, total_, 0};
  if (linear == nullptr) {
    job.bytes = job.part_rows[0] * k * static_cast<int64_t>(sizeof(BF16));
  } else {
    PackedMatrix& m = linear->weight;
    m.k = k;
    m.k_padded = RoundUp(k, kKBlock);
    m.workers = team_.size();
    int64_t rows = 0;
    for (const int64_t r : job.part_rows) rows += r;
    if (order == Order::kGateUp) {
      m.granule = 2 * kColumnGroup;
    } else if (order == Order::kQkvByGroup &&
               kernels::AttentionOwnsGroups(static_cast<int>(config_.num_kv_heads),
                                            team_.size())) {
      // A worker gets whole KV groups, and keeps them from here through the attention.
      m.granule = rows / config_.num_kv_heads;
    }
    m.n = RoundUp(rows, m.granule);
    job.bytes = PackedBytes(m.n, k);
    if (has_bias) {
      std::vector<std::vector<float>> biases(job.parts.size());
      for (size_t i = 0; i < job.parts.size(); ++i) {
        RETURN_IF_ERROR(ReadVector(job.parts[i] + ".bias", job.part_rows[i], &biases[i]));
      }
      linear->bias.assign(m.n, 0.0f);
      for (int64_t column = 0; column < m.n; ++column) {
        const Place place = PlaceOf(order, config_, column, job.part_rows[0]);
        if (place.part >= 0) linear->bias[column] = biases[place.part][place.row];
      }
    }
  }
  total_ += RoundUp(job.bytes, 64);
  jobs_.push_back(std::move(job));
  return OkStatus();
}

Status Loader::ReadVector(const std::string& name, int64_t n, std::vector<float>* out) {
  RETURN_IF_ERROR(CheckTensor(checkpoint_, name, {n}));
  out->resize(n);
  weights_.bytes += n * static_cast<int64_t>(sizeof(float));
  return checkpoint_.ReadRows(name, 0, n, out->data());
}

Status Loader::PackOne(const Job& job, int worker) const {
  std::vector<RowReader> readers;
  for (const std::string& part : job.parts) {
    readers.emplace_back(checkpoint_, part + ".weight", job.k);
  }
  BF16* const data = reinterpret_cast<BF16*>(weights_.buffer.as<std::byte>() + job.offset);
  if (job.linear == nullptr) {
    const Range rows = SplitRange(job.part_rows[0], 1, {worker, team_.size()});
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      RETURN_IF_ERROR(readers[0].Read(r, data + r * job.k));
    }
    return OkStatus();
  }
  return PackColumns(job.linear->weight, data, worker, [&](int64_t column, BF16* row) -> Status {
    const Place place = PlaceOf(job.order, config_, column, job.part_rows[0]);
    if (place.part >= 0) return readers[place.part].Read(place.row, row);
    std::fill(row, row + job.k, BF16{0});
    return OkStatus();
  });
}

// One dispatch; the workers go through the matrices together so that a matrix's file pages can be
// dropped once all have read them.
Status Loader::Pack(LoadProgress progress) {
  for (const Job& job : jobs_) {
    BF16* const data = reinterpret_cast<BF16*>(weights_.buffer.as<std::byte>() + job.offset);
    if (job.linear == nullptr) {
      weights_.embedding = data;
    } else {
      job.linear->weight.data = data;
    }
  }
  std::vector<Status> status(team_.size());
  progress(0, total_);
  team_.Run([&](int worker) {
    for (size_t i = 0; i < jobs_.size(); ++i) {
      if (worker == 0 && i + 1 < jobs_.size()) {
        for (const std::string& part : jobs_[i + 1].parts) checkpoint_.WillNeed(part + ".weight");
      }
      if (status[worker].ok()) status[worker] = PackOne(jobs_[i], worker);
      team_.Barrier();
      if (worker != 0) continue;
      for (const std::string& part : jobs_[i].parts) checkpoint_.DontNeed(part + ".weight");
      progress(std::min(jobs_[i].offset + RoundUp(jobs_[i].bytes, 64), total_), total_);
    }
  });
  for (Status& s : status) RETURN_IF_ERROR(std::move(s));
  return OkStatus();
}

}  // namespace

Expected<Weights> LoadWeights(const Checkpoint& checkpoint, platform::WorkerTeam& team,
                              LoadProgress progress) {
  return Loader(checkpoint, team).Load(progress);
}

}  // namespace tiercel::model
