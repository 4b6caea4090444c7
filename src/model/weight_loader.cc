#include "model/weight_loader.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/tensor_reader.h"
#include "kernels/attention_work.h"
#include "model/block_packing.h"
#include "model/kv_channels.h"
#include "model/packing.h"
#include "model/stages.h"

namespace tiercel::model {

WeightLoader::WeightLoader(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options,
                           const comm::RankPlaces& places, Rank rank, int workers)
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

Status WeightLoader::Plan() {
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

void WeightLoader::PointToBuffer() {
  for (const MatrixJob& job : jobs_) {
    if (job.linear != nullptr) {
      job.linear->weight.data = DataOf(job);
    } else if (job.bytes > 0) {
      weights_.embedding = reinterpret_cast<const BF16*>(DataOf(job));
    }
  }
}

// All in memory if it fits there; else the last layers on disk, as many as need be.
Status WeightLoader::Allocate() {
  weights_.bytes_in_memory = weights_.bytes;
  if (fits_in_memory()) {
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

Status WeightLoader::AllocatePartlyOnDisk(int64_t in_memory) {
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

Status WeightLoader::PlanEnds() {
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
Status WeightLoader::PlanHead(const std::string& name, checkpoint::QuantizeTo quantize) {
  if (!places_.is_last_stage()) return OkStatus();
  return PlanByColumns(&weights_.lm_head, ColumnOrder::kPlain,
                       {{name, config_.vocab_size, VocabularyOf(config_, rank_)}}, config_.hidden_size, false, quantize);
}

// Layer i of the stage.
Status WeightLoader::PlanLayer(int64_t i) {
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
Status WeightLoader::PlanEmbedding(const std::string& name) {
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
Status WeightLoader::Plan(Linear* linear, ColumnOrder order, std::vector<ShardName> shards, int64_t k, Range slice,
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
Status WeightLoader::PlanMatrix(Linear* linear, const FusedLinear& source, const checkpoint::InputQuantization& input) {
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
Status WeightLoader::PlanStrips(Linear* linear, const FusedLinear& source) {
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

Status WeightLoader::ReadVector(const std::string& name, int64_t n, std::vector<float>* out) {
  RETURN_IF_ERROR(checkpoint::CheckTensor(checkpoint_, name, {n}));
  out->resize(n);
  weights_.bytes += n * static_cast<int64_t>(sizeof(float));
  return checkpoint_.ReadRows(name, 0, n, out->data());
}

// The Ascend quantizer gives norms a bias where it shifts activations.
Status WeightLoader::ReadNorm(const std::string& name, int64_t n, NormWeights* out) {
  RETURN_IF_ERROR(ReadVector(name + ".weight", n, &out->weight));
  if (checkpoint_.quantization().method() != checkpoint::QuantMethod::kAscend) return OkStatus();
  if (!checkpoint_.Find(name + ".bias")) return OkStatus();
  return ReadVector(name + ".bias", n, &out->bias);
}

// Scales of the keys' channels where the checkpoint has none.
Status WeightLoader::FindKvChannels(const FusedLinear& qkv, LayerWeights& layer) {
  const Shard& k = qkv.shards[1];
  ASSIGN_OR_RETURN(std::vector<float> sizes,
                   OutputSizes(checkpoint_, k.name, k.tensors, layer.input_norm.weight, k.rows));
  const std::vector<float>& norm = layer.k_norm.weight;
  for (size_t i = 0; i < sizes.size() && !norm.empty(); ++i) sizes[i] *= std::abs(norm[i % norm.size()]);
  layer.kv.int8.k_scale = KeyScales(sizes, config_.head_dim);
  return OkStatus();
}

}  // namespace tiercel::model
