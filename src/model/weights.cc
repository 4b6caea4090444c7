#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include <fmt/ranges.h>

#include "base/check.h"
#include "base/human_bytes.h"
#include "base/log.h"
#include "base/round_up.h"
#include "checkpoint/tensor_reader.h"
#include "comm/rank_places.h"
#include "kernels/attention_work.h"
#include "model/block_packing.h"
#include "model/kv_channels.h"
#include "model/pack_matrix.h"
#include "model/packed_file.h"
#include "model/packing.h"
#include "model/rank.h"
#include "model/stages.h"

namespace tiercel::model {
namespace {

class Loader {
 public:
  Loader(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options, const comm::RankPlaces& places, Rank rank,
         int workers)
      : checkpoint_(checkpoint),
        config_(checkpoint.config()),
        part_(PartOf(checkpoint.config(), rank)),
        options_(options),
        places_(places),
        layers_(LayersOf(config_, options, places.stage)),
        rank_(rank),
        workers_(workers) {
    if (options.shares.empty()) return;
    const auto first = options.shares.begin() + (rank.index - places.first_here()) * workers;
    weights_.bounds.push_back(0);
    std::partial_sum(first, first + workers, std::back_inserter(weights_.bounds));
  }

  // Plans every matrix and reads what is small.
  Status Plan() {
    weights_.kv_dtype = options_.kv_dtype.value_or(checkpoint_.quantization().kv_cache().value_or(DType::kBF16));
    weights_.layers.resize(static_cast<size_t>(layers_.size()));
    RETURN_IF_ERROR(PlanEnds());
    for (int64_t i = 0; i < layers_.size(); ++i) {
      layer_begin_.push_back(total_);
      RETURN_IF_ERROR(PlanLayer(i));
    }
    layer_begin_.push_back(total_);
    if (cut_orders_ > 0 && options_.keep_blocks && IsFirstHere()) {
      LOG_WARNING("{} linears of four bits have reordered inputs (desc_act), of which ranks have no whole groups: they become "
                  "BF16, which takes four times the memory; with --tensor-parallel-size 1 they stay as they are",
                  cut_orders_);
    }
    weights_.bytes += total_;
    return OkStatus();
  }

  // Memory for the matrices, which are then packed.
  Status Allocate();

  // Or: the matrices of an earlier start, if there are some that fit.
  bool keeps_packed() const { return !options_.packed.path.empty() && total_ <= options_.max_bytes_in_memory; }
  PackedFile FileOfPacked() const;
  std::optional<MappedWeights> FindPacked() const;
  void Take(MappedWeights mapped);
  Status WritePacked(FunctionRef<void(int64_t)> progress) const;
  // Worker `worker`'s part of what is mapped comes from disk, if it isn't in memory.
  void ReadAhead(int worker, FunctionRef<void(int64_t)> progress) const;

  // The matrices, one after the other; every rank has as many.
  size_t num_jobs() const { return jobs_.size(); }
  Status Pack(size_t job, int worker) const {
    return PackMatrix(checkpoint_, part_, jobs_[job], DataOf(jobs_[job]), worker, workers_);
  }
  void WillNeed(size_t job) const {
    for (const Shard& shard : jobs_[job].source->shards) checkpoint_.WillNeed(shard.name + ".weight");
  }
  void DontNeed(size_t job) const {
    for (const Shard& shard : jobs_[job].source->shards) checkpoint_.DontNeed(shard.name + ".weight");
  }
  int64_t BytesUpTo(size_t job) const {
    return std::min(jobs_[job].offset + RoundUp(jobs_[job].bytes, 64), total_);
  }
  int64_t total() const { return total_; }
  Weights TakeWeights() { return std::move(weights_); }

 private:
  // A tensor of `rows` rows, of which the rank takes some.
  struct ShardName {
    std::string name;
    int64_t rows;
    Range taken;
  };

  bool IsFirstHere() const { return rank_.index == places_.first_here(); }
  Status PlanEnds();
  Status PlanHead(const std::string& name, checkpoint::QuantizeTo quantize);
  Status PlanLayer(int64_t i);
  void PointToBuffer();
  std::vector<std::span<std::byte>> Aside() const;
  Status AllocatePartlyOnDisk(int64_t in_memory);
  Status PlanEmbedding(const std::string& name);
  // By columns: each rank takes rows of the tensors. By rows (of the packed matrix): a slice of their k.
  Status PlanByColumns(Linear* linear, ColumnOrder order, std::vector<ShardName> shards, int64_t k,
                       bool has_bias, checkpoint::QuantizeTo quantize) {
    return Plan(linear, order, std::move(shards), k, {0, k}, has_bias, quantize);
  }
  Status PlanByRows(Linear* linear, const std::string& name, int64_t k, Range slice, bool has_bias,
                    checkpoint::QuantizeTo quantize) {
    const int64_t rows = config_.hidden_size;
    return Plan(linear, ColumnOrder::kPlain, {{name, rows, {0, rows}}}, k, slice, has_bias, quantize);
  }
  Status Plan(Linear* linear, ColumnOrder order, std::vector<ShardName> shards, int64_t k, Range slice,
              bool has_bias, checkpoint::QuantizeTo quantize);
  Status PlanStrips(Linear* linear, const FusedLinear& source);
  Status PlanMatrix(Linear* linear, const FusedLinear& source, const checkpoint::InputQuantization& input);
  Status ReadVector(const std::string& name, int64_t n, std::vector<float>* out);
  Status ReadNorm(const std::string& name, int64_t n, NormWeights* out);
  Status FindKvChannels(const FusedLinear& qkv, LayerWeights& layer);
  std::byte* DataOf(const MatrixJob& job) const {
    return weights_.buffer.as<std::byte>() + job.offset;
  }

  const checkpoint::Checkpoint& checkpoint_;
  const checkpoint::ModelConfig& config_;
  const checkpoint::ModelConfig part_;  // the rank's
  const WeightOptions options_;
  const comm::RankPlaces places_;
  const Range layers_;  // the stage's
  const Rank rank_;
  const int workers_;  // of the rank
  Weights weights_;
  std::vector<std::unique_ptr<FusedLinear>> sources_;  // jobs point to them
  std::vector<MatrixJob> jobs_;
  int64_t total_ = 0;
  int64_t cut_orders_ = 0;            // linears whose reordered inputs ranks would have to share
  std::vector<int64_t> layer_begin_;  // offset of each layer's matrices; with the end of the last
};

void Loader::PointToBuffer() {
  for (const MatrixJob& job : jobs_) {
    if (job.linear != nullptr) {
      job.linear->weight.data = DataOf(job);
    } else if (job.bytes > 0) {
      weights_.embedding = reinterpret_cast<const BF16*>(DataOf(job));
    }
  }
}

// All in memory if it fits there; else the last layers on disk, as many as need be.
Status Loader::Allocate() {
  weights_.bytes_in_memory = weights_.bytes;
  if (total_ <= options_.max_bytes_in_memory) {
    ASSIGN_OR_RETURN(weights_.buffer, platform::Buffer::Allocate(total_));
    PointToBuffer();
    return OkStatus();
  }
  // While a layer is read, the next one comes.
  int64_t largest = 0;
  for (size_t i = 0; i + 1 < layer_begin_.size(); ++i) {
    largest = std::max(largest, layer_begin_[i + 1] - layer_begin_[i]);
  }
  const int64_t window = 2 * largest;
  const int64_t ends = layer_begin_[0];  // the embedding and the head are used all over
  const int64_t in_memory = std::max(ends, options_.max_bytes_in_memory - window);
  RETURN_IF_ERROR(AllocatePartlyOnDisk(in_memory));
  PointToBuffer();
  const int64_t on_disk = total_ - static_cast<int64_t>(weights_.buffer.in_memory());
  if (on_disk <= 0) return OkStatus();
  weights_.bytes_in_memory += window - on_disk;
  for (int64_t i = 0; i < layers_.size(); ++i) {
    const std::byte* const data = weights_.buffer.as<std::byte>();
    const int64_t begin = std::max(layer_begin_[i], total_ - on_disk), end = layer_begin_[i + 1];
    if (begin < end) weights_.layers[i].on_disk = {data + begin, data + end};
  }
  return OkStatus();
}

// What packing writes beside the matrices.
std::vector<std::span<std::byte>> Loader::Aside() const {
  std::vector<std::span<std::byte>> parts;
  for (const MatrixJob& job : jobs_) {
    if (job.linear == nullptr || !job.linear->is_int8()) continue;
    parts.push_back(std::as_writable_bytes(std::span(job.linear->acc_bias)));
    parts.push_back(std::as_writable_bytes(std::span(job.linear->scale)));
  }
  return parts;
}

// Every matrix's source and place, and the options: files of another form, other workers or another rank have another key.
PackedFile Loader::FileOfPacked() const {
  std::string key = fmt::format("{}\nquantize {} {} blocks {} mix {} head {} rank {} of {} stage {}\n", options_.packed.model,
                                static_cast<int>(options_.quantize), options_.quantize_lm_head, options_.keep_blocks,
                                options_.mix_static, static_cast<int>(options_.head), rank_.index, rank_.count, places_.stage);
  for (const MatrixJob& job : jobs_) {
    key += fmt::format("{} {} order {} k {} {} {} kind {} {} {}", job.offset, job.bytes, static_cast<int>(job.source->order),
                       job.source->k, job.source->slice.begin, job.source->slice.end, static_cast<int>(job.input.kind),
                       job.input.scale, job.input.offset);
    for (const Shard& shard : job.source->shards) {
      key += fmt::format(" {} {} {} {}", shard.name, shard.rows.begin, shard.rows.end, job.Has(shard));
    }
    if (job.linear != nullptr) {
      const PackedMatrix& m = job.linear->weight;
      key += fmt::format(" n {} {} granule {} type {}", m.n, m.k_padded, m.granule, static_cast<int>(m.dtype));
      for (const BlockStrip& strip : job.linear->strips) key += fmt::format(" {}", static_cast<int>(strip.format));
    }
    key += '\n';
  }
  key += fmt::format("workers {} {}\n", workers_, fmt::join(weights_.bounds, " "));
  return {fmt::format("{}-{}-{}.packed", options_.packed.path, places_.stage, rank_.index), std::move(key)};
}

std::optional<MappedWeights> Loader::FindPacked() const {
  size_t aside = 0;
  for (const auto& part : Aside()) aside += part.size();
  return MapPackedFile(FileOfPacked(), static_cast<size_t>(total_), aside);
}

void Loader::Take(MappedWeights mapped) {
  const std::byte* from = mapped.aside.data();
  for (const auto& part : Aside()) {
    std::memcpy(part.data(), from, part.size());
    from += part.size();
  }
  weights_.buffer = std::move(mapped.buffer);
  weights_.bytes_in_memory = weights_.bytes;
  PointToBuffer();
}

Status Loader::WritePacked(FunctionRef<void(int64_t)> progress) const {
  std::vector<std::byte> aside;
  for (const auto& part : Aside()) aside.insert(aside.end(), part.begin(), part.end());
  const PackedFile file = FileOfPacked();
  RETURN_IF_ERROR(WritePackedFile(file, {weights_.buffer.as<const std::byte>(), static_cast<size_t>(total_)}, aside,
                                  options_.cancelled, progress));
  LOG_INFO("{}: written, {}: the next start maps it", file.path, HumanBytes(total_));
  return OkStatus();
}

void Loader::ReadAhead(int worker, FunctionRef<void(int64_t)> progress) const {
  constexpr int64_t kPage = 4096, kPiece = int64_t{64} << 20;
  const Range part = SplitRange(total_, kPage, {worker, workers_});
  for (int64_t at = part.begin; at < part.end; at += kPiece) {
    if (options_.cancelled != nullptr && *options_.cancelled) return;
    const int64_t end = std::min(part.end, at + kPiece);
    const std::byte* const data = weights_.buffer.as<const std::byte>();
    platform::Buffer::WillNeed(data + at, static_cast<size_t>(std::min(part.end, end + kPiece) - at));
    for (int64_t i = at; i < end; i += kPage) (void)*static_cast<const volatile std::byte*>(data + i);
    progress(end - part.begin);
  }
}

Status Loader::AllocatePartlyOnDisk(int64_t in_memory) {
  Status status = InvalidArgument("no folder for weights on disk is given");
  for (const std::string& folder : options_.disk_folders) {
    auto buffer = platform::Buffer::AllocatePartlyOnDisk(total_, in_memory, folder);
    if (buffer) {
      weights_.buffer = std::move(*buffer);
      const auto gib = [](int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); };
      const auto held = static_cast<int64_t>(weights_.buffer.in_memory());
      LOG_WARNING("The weights ({:.2f} GiB) do not fit into memory: {:.2f} GiB of them lie in {} and "
                  "are read from there in every step, at the disk's speed",
                  gib(total_), gib(total_ - held), folder);
      return OkStatus();
    }
    status = buffer.error();
  }
  return ResourceExhausted("the weights ({:.2f} GiB) do not fit into memory, nor on disk: {}",
                           static_cast<double>(total_) / (1 << 30), status.message());
}

Status Loader::PlanEnds() {
  const std::string embedding = "model.embed_tokens";
  using checkpoint::QuantizeTo;
  const QuantizeTo quantize = !options_.quantize_lm_head                ? QuantizeTo::kNone
                              : options_.quantize == QuantizeTo::kInt4 ? QuantizeTo::kInt4
                                                                       : QuantizeTo::kInt8;
  const int64_t hidden = config_.hidden_size;
  weights_.head = options_.head;
  if (options_.head == checkpoint::Head::kHidden) {
    RETURN_IF_ERROR(PlanEmbedding(embedding));
  } else if (config_.tie_word_embeddings) {
    if (IsFirstHere() && checkpoint_.Find("lm_head.weight")) {
      LOG_WARNING("tie_word_embeddings is true: lm_head.weight in the checkpoint is ignored");
    }
    // Tokens' rows are the head's columns, if all of them are here.
    const bool apart = quantize != QuantizeTo::kNone || options_.process.count > 1;
    if (apart) RETURN_IF_ERROR(PlanEmbedding(embedding));
    RETURN_IF_ERROR(PlanHead(embedding, quantize));
  } else {
    RETURN_IF_ERROR(PlanEmbedding(embedding));
    RETURN_IF_ERROR(PlanHead("lm_head", quantize));
  }
  return ReadNorm("model.norm", hidden, &weights_.final_norm);
}

// The last stage's.
Status Loader::PlanHead(const std::string& name, checkpoint::QuantizeTo quantize) {
  if (!places_.is_last_stage()) return OkStatus();
  return PlanByColumns(&weights_.lm_head, ColumnOrder::kPlain,
                       {{name, config_.vocab_size, VocabularyOf(config_, rank_)}}, config_.hidden_size, false, quantize);
}

// Layer i of the stage.
Status Loader::PlanLayer(int64_t i) {
  const checkpoint::ModelConfig& c = config_;
  LayerWeights& layer = weights_.layers[i];
  const std::string prefix = fmt::format("model.layers.{}.", layers_.begin + i);
  const std::string attention = prefix + "self_attn.";
  const std::string mlp = prefix + "mlp.";
  const int64_t q_rows = c.num_heads * c.head_dim;
  const int64_t kv_rows = c.num_kv_heads * c.head_dim;
  const auto rows_of = [&](Range heads) {
    return Range{heads.begin * c.head_dim, heads.end * c.head_dim};
  };
  const Range q = rows_of(HeadsOf(c, rank_)), kv = rows_of(KvHeadsOf(c, rank_));
  const Range inner = InnerColumnsOf(c, rank_);
  const checkpoint::QuantizeTo quantize = options_.quantize;
  RETURN_IF_ERROR(ReadNorm(prefix + "input_layernorm", c.hidden_size, &layer.input_norm));
  RETURN_IF_ERROR(PlanByColumns(&layer.qkv, ColumnOrder::kQkvByGroup,
                                {{attention + "q_proj", q_rows, q},
                                 {attention + "k_proj", kv_rows, kv},
                                 {attention + "v_proj", kv_rows, kv}},
                                c.hidden_size, c.qkv_bias, quantize));
  if (c.qk_norm) {
    RETURN_IF_ERROR(ReadNorm(attention + "q_norm", c.head_dim, &layer.q_norm));
    RETURN_IF_ERROR(ReadNorm(attention + "k_norm", c.head_dim, &layer.k_norm));
  }
  if (weights_.kv_dtype == DType::kI8 && checkpoint_.quantization().kv_cache() == DType::kI8) {
    ASSIGN_OR_RETURN(layer.kv.int8, checkpoint::ReadKvChannelScales(checkpoint_, attention, kv_rows, kv));
    weights_.bytes += 4 * kv.size() * static_cast<int64_t>(sizeof(float));
  } else if (weights_.kv_dtype == DType::kI8) {
    RETURN_IF_ERROR(FindKvChannels(*sources_.back(), layer));
  } else if (weights_.kv_dtype == DType::kF8E4M3) {
    ASSIGN_OR_RETURN(layer.kv.fp8, checkpoint::ReadKvTensorScales(checkpoint_, attention));
  }
  RETURN_IF_ERROR(PlanByRows(&layer.o, attention + "o_proj", q_rows, q, c.o_bias, quantize));
  RETURN_IF_ERROR(ReadNorm(prefix + "post_attention_layernorm", c.hidden_size,
                           &layer.post_attention_norm));
  RETURN_IF_ERROR(PlanByColumns(&layer.gate_up, ColumnOrder::kGateUp,
                                {{mlp + "gate_proj", c.intermediate_size, inner},
                                 {mlp + "up_proj", c.intermediate_size, inner}},
                                c.hidden_size, c.mlp_bias, quantize));
  return PlanByRows(&layer.down, mlp + "down_proj", c.intermediate_size, inner, c.mlp_bias, quantize);
}

// The first stage's. The first rank of each process keeps it for all.
Status Loader::PlanEmbedding(const std::string& name) {
  if (!places_.is_first_stage()) return OkStatus();
  auto source = std::make_unique<FusedLinear>();
  source->k = config_.hidden_size;
  source->slice = {0, source->k};
  ASSIGN_OR_RETURN(checkpoint::LinearTensors tensors,
                   checkpoint::ReadLinearTensors(checkpoint_, name, config_.vocab_size, source->k, false,
                                     {.keep_blocks = options_.keep_blocks}));
  const int64_t rows = IsFirstHere() ? config_.vocab_size : 0;
  const checkpoint::InputQuantization input = tensors.input;
  source->shards.push_back({name, {0, rows}, std::move(tensors)});
  if (input.kind == checkpoint::InputKind::kBlocks) {
    RETURN_IF_ERROR(PlanMatrix(&weights_.block_embedding, *source, input));
    sources_.push_back(std::move(source));
    return OkStatus();
  }
  if (input.kind != checkpoint::InputKind::kBF16) {
    return Unimplemented("{}.weight: found {}, expected float embeddings", name,
                         input.kind == checkpoint::InputKind::kBF16ForFp8 ? "FP8" : "INT8");
  }
  MatrixJob job;
  job.source = source.get();
  job.offset = total_;
  job.bytes = rows * source->k * static_cast<int64_t>(sizeof(BF16));
  total_ += RoundUp(job.bytes, 64);
  jobs_.push_back(job);
  sources_.push_back(std::move(source));
  return OkStatus();
}

// Reads the shards' small tensors, and plans a matrix for each way in which their inputs are
// quantized.
Status Loader::Plan(Linear* linear, ColumnOrder order, std::vector<ShardName> shards, int64_t k, Range slice,
                    bool has_bias, checkpoint::QuantizeTo quantize) {
  auto source = std::make_unique<FusedLinear>();
  source->order = order;
  source->k = k;
  source->slice = slice;
  source->has_bias = slice.size() == k || rank_.index == 0;
  std::vector<checkpoint::InputQuantization> ways;
  for (ShardName& shard : shards) {
    // A slice of the inputs has parts of all groups, if these are not neighbors.
    const bool cuts = slice.size() != k && !checkpoint_.BlockOrderOf(shard.name + ".weight").empty();
    if (cuts) ++cut_orders_;
    ASSIGN_OR_RETURN(checkpoint::LinearTensors tensors,
                     checkpoint::ReadLinearTensors(checkpoint_, shard.name, shard.rows, k, has_bias,
                                       {quantize, options_.keep_blocks && !cuts, options_.mix_static}));
    if (std::find(ways.begin(), ways.end(), tensors.input) == ways.end()) {
      ways.push_back(tensors.input);
    }
    source->shards.push_back({std::move(shard.name), shard.taken, std::move(tensors)});
  }
  linear->more.resize(ways.size() - 1);
  RETURN_IF_ERROR(PlanMatrix(linear, *source, ways[0]));
  for (size_t i = 1; i < ways.size(); ++i) RETURN_IF_ERROR(PlanMatrix(&linear->more[i - 1], *source, ways[i]));
  sources_.push_back(std::move(source));
  return OkStatus();
}

// Fills in the descriptor and what the kernels need for each column.
Status Loader::PlanMatrix(Linear* linear, const FusedLinear& source, const checkpoint::InputQuantization& input) {
  PackedMatrix& m = linear->weight;
  linear->input = input;
  const bool blocks = HasStrips(input.kind);
  m.dtype = input.kind == checkpoint::InputKind::kBF16 ? DType::kBF16 : blocks ? DType::kU8 : DType::kI8;
  m.k = source.slice.size();
  m.k_padded = PaddedK(m.k, m.dtype);
  m.workers = workers_;
  if (!weights_.bounds.empty()) m.bounds = weights_.bounds.data();
  int64_t rows = 0;
  for (const Shard& shard : source.shards) rows += shard.rows.size();
  if (source.order == ColumnOrder::kGateUp) {
    m.granule = 2 * kColumnGroup;
  } else if (source.order == ColumnOrder::kQkvByGroup &&
             kernels::AttentionOwnsGroups(static_cast<int>(part_.num_kv_heads), m.ShareOf(0))) {
    // A worker gets whole KV groups, and keeps them from here through the attention.
    m.granule = rows / part_.num_kv_heads;
  }
  m.n = RoundUp(rows, m.granule);

  if (blocks) RETURN_IF_ERROR(PlanStrips(linear, source));
  MatrixJob job{linear, &source, input, total_, m.Offset(m.n)};
  if (linear->is_int8()) {
    linear->acc_bias.assign(m.n, 0);
    linear->scale.assign(m.n, 0.0f);
  }
  for (int64_t column = 0; column < m.n; ++column) {
    const Place place = PlaceOf(source.order, part_, column, source.shards[0].rows.size());
    if (place.part < 0 || !job.Has(source.shards[place.part])) continue;
    const checkpoint::LinearTensors& t = source.shards[place.part].tensors;
    const int64_t row = source.shards[place.part].rows.begin + place.row;
    if (!t.bias.empty() && source.has_bias) {
      linear->bias.resize(m.n, 0.0f);
      linear->bias[column] = t.bias[row];
    }
    if (!linear->is_int8()) continue;
    if (!t.scale.empty()) linear->scale[column] = t.scale[row];
    if (!t.acc_bias.empty() && source.has_bias) linear->acc_bias[column] = t.acc_bias[row];
  }
  weights_.bytes += m.n * static_cast<int64_t>(linear->is_int8() ? sizeof(int32_t) + sizeof(float) : 0);
  weights_.bytes += std::ssize(input.order) * static_cast<int64_t>(sizeof(int32_t));
  total_ += RoundUp(job.bytes, 64);
  jobs_.push_back(job);
  return OkStatus();
}

// Each strip has the format of the rows that it holds.
Status Loader::PlanStrips(Linear* linear, const FusedLinear& source) {
  PackedMatrix& m = linear->weight;
  linear->strips.assign(static_cast<size_t>(m.n / kStripColumns), {});
  for (const Shard& shard : source.shards) {
    const BlockFormat format = shard.tensors.blocks;
    if (format == BlockFormat::kNone) continue;
    RETURN_IF_ERROR(CheckSlice(shard.name + ".weight", format, source.k, source.slice));
  }
  int64_t offset = 0;
  for (int64_t column = 0; column < m.n; ++column) {
    BlockStrip& strip = linear->strips[static_cast<size_t>(column / kStripColumns)];
    if (column % kStripColumns == 0) strip.offset = offset;
    const Place place = PlaceOf(source.order, part_, column, source.shards[0].rows.size());
    if (place.part < 0) continue;
    const BlockFormat format = source.shards[place.part].tensors.blocks;
    if (format == BlockFormat::kNone || format == strip.format) continue;
    CHECK(strip.format == BlockFormat::kNone);  // heads are whole strips
    strip.format = format;
    offset = strip.offset + StripBytes(format, m.k);
  }
  m.strips = linear->strips.data();
  return OkStatus();
}

Status Loader::ReadVector(const std::string& name, int64_t n, std::vector<float>* out) {
  RETURN_IF_ERROR(checkpoint::CheckTensor(checkpoint_, name, {n}));
  out->resize(n);
  weights_.bytes += n * static_cast<int64_t>(sizeof(float));
  return checkpoint_.ReadRows(name, 0, n, out->data());
}

// The Ascend quantizer gives norms a bias where it shifts activations.
Status Loader::ReadNorm(const std::string& name, int64_t n, NormWeights* out) {
  RETURN_IF_ERROR(ReadVector(name + ".weight", n, &out->weight));
  if (checkpoint_.quantization().method() != checkpoint::QuantMethod::kAscend) return OkStatus();
  if (!checkpoint_.Find(name + ".bias")) return OkStatus();
  return ReadVector(name + ".bias", n, &out->bias);
}

// Scales of the keys' channels where the checkpoint has none.
Status Loader::FindKvChannels(const FusedLinear& qkv, LayerWeights& layer) {
  const Shard& k = qkv.shards[1];
  ASSIGN_OR_RETURN(std::vector<float> sizes,
                   OutputSizes(checkpoint_, k.name, k.tensors, layer.input_norm.weight, k.rows));
  const std::vector<float>& norm = layer.k_norm.weight;
  for (size_t i = 0; i < sizes.size() && !norm.empty(); ++i) sizes[i] *= std::abs(norm[i % norm.size()]);
  layer.kv.int8.k_scale = KeyScales(sizes, config_.head_dim);
  return OkStatus();
}

// One dispatch; the workers go through the matrices together so that a matrix's file pages can be
// dropped once all have read them.
Status PackAll(const std::vector<std::unique_ptr<Loader>>& ranks, const WeightOptions& options,
               platform::WorkerTeam& team, LoadProgress progress) {
  const int rank_size = team.size() / team.ranks();
  const size_t jobs = ranks[0]->num_jobs();
  int64_t total = 0;
  for (const auto& rank : ranks) total += rank->total();
  std::vector<Status> status(static_cast<size_t>(team.size()));
  progress(0, total);
  team.Run([&](int worker) {
    const Loader& rank = *ranks[static_cast<size_t>(worker / rank_size)];
    Status& mine = status[static_cast<size_t>(worker)];
    for (size_t i = 0; i < jobs; ++i) {
      if (worker == 0 && i + 1 < jobs) rank.WillNeed(i + 1);
      if (options.cancelled != nullptr && *options.cancelled) {
        mine = Status(StatusCode::kCancelled, "loading was cancelled");
      }
      if (mine.ok()) mine = rank.Pack(i, worker % rank_size);
      team.BarrierOfRanks();
      if (worker != 0) continue;
      rank.DontNeed(i);
      int64_t done = 0;
      for (const auto& each : ranks) done += each->BytesUpTo(i);
      progress(done, total);
    }
  });
  for (Status& s : status) RETURN_IF_ERROR(std::move(s));
  return OkStatus();
}

// What every rank has from an earlier start; false: some have none.
bool MapAll(const std::vector<std::unique_ptr<Loader>>& ranks, platform::WorkerTeam& team, LoadProgress progress) {
  std::vector<MappedWeights> found;
  for (const auto& rank : ranks) {
    auto mapped = rank->FindPacked();
    if (!mapped) return false;
    found.push_back(std::move(*mapped));
  }
  for (size_t i = 0; i < ranks.size(); ++i) ranks[i]->Take(std::move(found[i]));
  LOG_INFO("The packed weights of an earlier start are mapped: {}", ranks[0]->FileOfPacked().path);
  const int rank_size = team.size() / team.ranks();
  const int64_t total = ranks[0]->total();
  team.Run([&](int worker) {
    ranks[static_cast<size_t>(worker / rank_size)]->ReadAhead(worker % rank_size, [&](int64_t done) {
      if (worker == 0) progress(std::min(done * rank_size, total), total);
    });
  });
  progress(total, total);
  return true;
}

// A failure costs the next start its time, no more.
void WriteAll(const std::vector<std::unique_ptr<Loader>>& ranks, LoadProgress progress) {
  int64_t total = 0, before = 0;
  for (const auto& rank : ranks) total += rank->total();
  for (const auto& rank : ranks) {
    const Status status = rank->WritePacked([&](int64_t done) { progress(total + before + done, 2 * total); });
    if (!status.ok()) LOG_WARNING("--load-format packed: {}: the next start packs again", status.message());
    before += rank->total();
  }
}

}  // namespace

Expected<Weights> LoadWeights(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options,
                              platform::WorkerTeam& team, LoadProgress progress) {
  CHECK_EQ(team.ranks(), 1);
  ASSIGN_OR_RETURN(std::vector<Weights> ranks, LoadRanks(checkpoint, options, team, progress));
  return std::move(ranks[0]);
}

Expected<std::vector<Weights>> LoadRanks(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options,
                                         platform::WorkerTeam& team, LoadProgress progress) {
  CHECK(options.shares.empty() || std::ssize(options.shares) == team.size());
  WeightOptions of_rank = options;
  of_rank.max_bytes_in_memory /= team.ranks();
  std::vector<std::unique_ptr<Loader>> loaders;
  const auto places = comm::RankPlaces::Of(options.process, options.stages, team.ranks());
  for (int r = 0; r < team.ranks(); ++r) {
    loaders.push_back(std::make_unique<Loader>(checkpoint, of_rank, places, places.RankHere(r),
                                               team.size() / team.ranks()));
    RETURN_IF_ERROR(loaders.back()->Plan());
  }
  const bool keeps = !options.packed.path.empty() && loaders[0]->keeps_packed();
  if (!keeps && !options.packed.path.empty()) {
    LOG_WARNING("--load-format packed: the weights do not fit into memory and are packed at every start");
  }
  if (!keeps || !MapAll(loaders, team, progress)) {
    for (const auto& loader : loaders) RETURN_IF_ERROR(loader->Allocate());
    RETURN_IF_ERROR(PackAll(loaders, options, team, [&](int64_t done, int64_t total) { progress(done, keeps ? 2 * total : total); }));
    if (keeps) WriteAll(loaders, progress);
  }
  std::vector<Weights> weights;
  for (const auto& loader : loaders) weights.push_back(loader->TakeWeights());
  // What all read tokens' rows from.
  std::vector<PackedMatrix> packed;
  if (weights[0].block_embedding.weight.n > 0) {
    packed.push_back(weights[0].block_embedding.weight);
  } else if (weights[0].embedding == nullptr) {
    for (const Weights& rank : weights) packed.push_back(rank.lm_head.weight);
  }
  for (Weights& rank : weights) {
    rank.embedding = weights[0].embedding;
    if (rank.embedding == nullptr) rank.packed_embedding = packed;
  }
  return weights;
}

}  // namespace tiercel::model
