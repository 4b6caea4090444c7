#include "quantize/gguf_quantizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_writer.h"
#include "checkpoint/tensor_reader.h"
#include "model/layer_calibration.h"
#include "model/rope.h"
#include "quantize/block_quantizer.h"
#include "quantize/output_loss.h"
#include "quantize/smoothing.h"
#include "tensor/shape.h"

namespace tiercel::quantize {
namespace {

using checkpoint::GgufTensorType;
using model::LinearInputs;

// A matrix of the checkpoint, NAME.weight.
struct Matrix {
  std::string name;
  int64_t n = 0, k = 0;
};

class GgufQuantizer {
 public:
  GgufQuantizer(const checkpoint::Checkpoint& checkpoint, GgufOptions options, kernels::Environment* environment,
                const QuantizeCallbacks& callbacks)
      : checkpoint_(checkpoint),
        config_(checkpoint.config()),
        options_(std::move(options)),
        environment_(environment),
        callbacks_(callbacks) {}

  Expected<std::string> Run(const std::string& path);

 private:
  std::vector<LinearJob> Linears(int64_t layer) const { return LinearsOf(config_, layer, {}, options_.exclude); }
  GgufTensorType Type(const Matrix& matrix) const;
  std::vector<Matrix> Ends() const;  // the embedding, and the head if it is another matrix

  // Each tensor in the order in which it is written; adds up total_.
  Status PlanAll();
  Status Plan(const std::string& tensor, GgufTensorType type, const std::vector<int64_t>& shape);

  Status WriteLayer(int64_t layer);
  Status WriteMatrix(const Matrix& matrix, const OutputNorm* outputs, LinearError* error);
  Status WriteVector(const std::string& tensor);
  Status WriteRopeFactors();
  // Which of the checkpoint's rows is the file's.
  int64_t SourceRow(const std::string& tensor, int64_t row) const;
  Status Advance(int64_t elements);

  const checkpoint::Checkpoint& checkpoint_;
  const checkpoint::ModelConfig& config_;
  GgufOptions options_;
  kernels::Environment* const environment_;
  const QuantizeCallbacks& callbacks_;

  std::vector<checkpoint::PlannedGgufTensor> plan_;
  std::unique_ptr<checkpoint::GgufWriter> writer_;
  std::unique_ptr<model::LayerCalibration> calibration_;
  int64_t done_ = 0, total_ = 0;  // bytes, two for each number
};

constexpr const char* kFinalNorm = "model.norm.weight";
constexpr const char* kRopeFactors = "rope_freqs.weight";

GgufTensorType GgufQuantizer::Type(const Matrix& matrix) const {
  if (IsExcluded(options_.exclude, matrix.name)) return GgufTensorType::kBF16;
  return TypeOf(*options_.scheme, config_, matrix.name, matrix.k);
}

std::vector<Matrix> GgufQuantizer::Ends() const {
  std::vector<Matrix> ends = {{"model.embed_tokens", config_.vocab_size, config_.hidden_size}};
  if (!config_.tie_word_embeddings) ends.push_back({"lm_head", config_.vocab_size, config_.hidden_size});
  return ends;
}

Status GgufQuantizer::Plan(const std::string& tensor, GgufTensorType type, const std::vector<int64_t>& shape) {
  RETURN_IF_ERROR(checkpoint::CheckTensor(checkpoint_, tensor, shape));
  plan_.push_back({checkpoint::GgufName(tensor), type, shape});
  total_ += ElementsOf(shape) * static_cast<int64_t>(sizeof(BF16));
  return OkStatus();
}

Status GgufQuantizer::PlanAll() {
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    for (const LinearJob& job : Linears(layer)) {
      RETURN_IF_ERROR(Plan(job.name + ".weight", Type({job.name, job.n, job.k}), {job.n, job.k}));
      if (job.has_bias) RETURN_IF_ERROR(Plan(job.name + ".bias", GgufTensorType::kF32, {job.n}));
    }
    for (const std::string& name : NormsOf(config_, layer)) {
      const int64_t n = name.find(".self_attn.") != std::string::npos ? config_.head_dim : config_.hidden_size;
      RETURN_IF_ERROR(Plan(name, GgufTensorType::kF32, {n}));
    }
  }
  RETURN_IF_ERROR(Plan(kFinalNorm, GgufTensorType::kF32, {config_.hidden_size}));
  for (const Matrix& end : Ends()) RETURN_IF_ERROR(Plan(end.name + ".weight", Type(end), {end.n, end.k}));
  if (config_.rope.type == checkpoint::RopeType::kLlama3) {
    plan_.push_back({kRopeFactors, GgufTensorType::kF32, {config_.head_dim / 2}});
  }
  return OkStatus();
}

int64_t GgufQuantizer::SourceRow(const std::string& tensor, int64_t row) const {
  const bool query_or_key = tensor.find(".self_attn.q_proj.") != std::string::npos ||
                            tensor.find(".self_attn.k_proj.") != std::string::npos;
  if (config_.architecture != "LlamaForCausalLM" || !query_or_key) return row;
  // Llama's rows (head, half, i) are stored as (head, i, half), for llama.cpp's rotary embedding.
  const int64_t in_head = row % config_.head_dim;
  return row - in_head + in_head % 2 * (config_.head_dim / 2) + in_head / 2;
}

Status GgufQuantizer::Advance(int64_t elements) {
  done_ += elements * static_cast<int64_t>(sizeof(BF16));
  return callbacks_.progress ? callbacks_.progress(done_, total_) : OkStatus();
}

bool AllFinite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

Status GgufQuantizer::WriteMatrix(const Matrix& matrix, const OutputNorm* outputs, LinearError* error) {
  constexpr int64_t kChunkBytes = int64_t{32} << 20;
  const std::string tensor = matrix.name + ".weight";
  const GgufTensorType type = Type(matrix);
  const int64_t n = matrix.n, k = matrix.k;
  const int64_t row_bytes = checkpoint::PlannedGgufTensor{"", type, {k}}.bytes();
  const int64_t chunk = std::clamp<int64_t>(kChunkBytes / row_bytes, 1, n);
  const auto workers = static_cast<size_t>(environment_->team->size());
  std::vector<std::vector<float>> row(workers, std::vector<float>(static_cast<size_t>(k))), rounded = row;
  std::vector<RoundingLoss> losses(workers);
  std::vector<uint8_t> blocks(static_cast<size_t>(chunk * row_bytes));
  checkpoint_.WillNeed(tensor);
  for (int64_t begin = 0; begin < n; begin += chunk) {
    const int64_t rows = std::min(chunk, n - begin);
    RETURN_IF_ERROR(ForRows(environment_->team.get(), rows, [&](int64_t r, int number) -> Status {
      const auto worker = static_cast<size_t>(number);
      const int64_t source = SourceRow(tensor, begin + r);
      RETURN_IF_ERROR(checkpoint_.ReadRows(tensor, source, source + 1, row[worker].data()));
      if (!AllFinite(row[worker])) {
        return InvalidArgument("{}: row {} has values that are not finite", tensor, source);
      }
      uint8_t* const out = blocks.data() + r * row_bytes;
      QuantizeBlocks(type, row[worker].data(), k, out);
      checkpoint::Dequantize(type, out, k, rounded[worker].data());
      if (!AllFinite(rounded[worker])) {
        return InvalidArgument("{}: row {} has values too large for {}", tensor, source,
                               checkpoint::GgufTypeName(static_cast<uint32_t>(type)));
      }
      losses[worker].Add(row[worker].data(), rounded[worker], outputs);
      return OkStatus();
    }));
    const std::span<const uint8_t> written(blocks.data(), static_cast<size_t>(rows * row_bytes));
    RETURN_IF_ERROR(writer_->Append(checkpoint::GgufName(tensor), written));
    RETURN_IF_ERROR(Advance(rows * k));
  }
  checkpoint_.DontNeed(tensor);
  const bool is_float = type == GgufTensorType::kBF16;
  if (error != nullptr && !is_float) RoundingLoss::Report(losses, outputs != nullptr, error);
  return OkStatus();
}

std::span<const uint8_t> BytesOf(const std::vector<float>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
}

Status GgufQuantizer::WriteVector(const std::string& tensor) {
  const int64_t n = checkpoint_.Find(tensor)->shape[0];
  std::vector<float> values(static_cast<size_t>(n)), ordered = values;
  RETURN_IF_ERROR(checkpoint_.ReadRows(tensor, 0, n, values.data()));
  for (int64_t i = 0; i < n; ++i) ordered[static_cast<size_t>(i)] = values[static_cast<size_t>(SourceRow(tensor, i))];
  RETURN_IF_ERROR(writer_->Append(checkpoint::GgufName(tensor), BytesOf(ordered)));
  return Advance(n);
}

// Llama 3's scaling as divisors of the plain frequencies.
Status GgufQuantizer::WriteRopeFactors() {
  checkpoint::RopeConfig plain = config_.rope;
  plain.type = checkpoint::RopeType::kDefault;
  std::vector<float> factors = model::MakeRopeTable(plain, config_.head_dim, config_.max_position_embeddings).inv_freq;
  const model::RopeTable scaled = model::MakeRopeTable(config_.rope, config_.head_dim, config_.max_position_embeddings);
  for (size_t i = 0; i < factors.size(); ++i) factors[i] /= scaled.inv_freq[i];
  return writer_->Append(kRopeFactors, BytesOf(factors));
}

Status GgufQuantizer::WriteLayer(int64_t layer) {
  model::LayerInputs inputs;
  if (calibration_ != nullptr) {
    ASSIGN_OR_RETURN(inputs, calibration_->NextLayer());
  }
  const std::vector<LinearJob> jobs = Linears(layer);
  const std::array<LinearInputs*, 7> inputs_of = InputsOf(&inputs);
  std::vector<LinearError> errors;
  std::optional<OutputNorm> outputs;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const LinearJob& job = jobs[i];
    const bool first = i == 0 || inputs_of[i] != inputs_of[i - 1];
    if (calibration_ != nullptr && first) outputs.emplace(*inputs_of[i], job.k, nullptr);
    LinearError error;
    error.name = NameInLayer(job.name);
    RETURN_IF_ERROR(WriteMatrix({job.name, job.n, job.k}, outputs ? &*outputs : nullptr, &error));
    errors.push_back(std::move(error));
    if (job.has_bias) RETURN_IF_ERROR(WriteVector(job.name + ".bias"));
  }
  for (const std::string& name : NormsOf(config_, layer)) RETURN_IF_ERROR(WriteVector(name));
  if (callbacks_.layer) callbacks_.layer(layer, errors);
  return OkStatus();
}

Expected<std::string> GgufQuantizer::Run(const std::string& path) {
  options_.description.file_type = options_.scheme->file_type;
  ASSIGN_OR_RETURN(const checkpoint::GgufEntries entries, checkpoint::DescribeModel(config_, options_.description));
  RETURN_IF_ERROR(PlanAll());
  ASSIGN_OR_RETURN(writer_, checkpoint::GgufWriter::Create(path, entries, plan_));
  if (!options_.calibration.empty()) {
    ASSIGN_OR_RETURN(calibration_,
                     model::LayerCalibration::Create(checkpoint_, environment_, std::move(options_.calibration)));
  }
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) RETURN_IF_ERROR(WriteLayer(layer));
  RETURN_IF_ERROR(WriteVector(kFinalNorm));
  for (const Matrix& end : Ends()) RETURN_IF_ERROR(WriteMatrix(end, nullptr, nullptr));
  if (config_.rope.type == checkpoint::RopeType::kLlama3) RETURN_IF_ERROR(WriteRopeFactors());
  RETURN_IF_ERROR(writer_->Finish());
  std::map<std::string, int> counts;
  for (const checkpoint::PlannedGgufTensor& tensor : plan_) {
    ++counts[checkpoint::GgufTypeName(static_cast<uint32_t>(tensor.type))];
  }
  std::string text;
  for (const auto& [type, count] : counts) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", type, count);
  return text;
}

}  // namespace

Expected<std::string> QuantizeToGguf(const checkpoint::Checkpoint& checkpoint, GgufOptions options,
                                     kernels::Environment* environment, const std::string& path,
                                     const QuantizeCallbacks& callbacks) {
  return GgufQuantizer(checkpoint, std::move(options), environment, callbacks).Run(path);
}

}  // namespace tiercel::quantize
