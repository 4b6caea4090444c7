#include "checkpoint/gguf.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "checkpoint/convert.h"
#include "checkpoint/gguf_blocks.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_types.h"
#include "platform/mapped_file.h"

namespace tiercel::checkpoint {
namespace {

class GgufCheckpoint final : public Checkpoint {
 public:
  static Expected<std::unique_ptr<Checkpoint>> Open(const std::string& path,
                                                    std::string_view hf_overrides);

  std::string path() const override { return file_.path(); }
  std::string PlaceInFile(std::string_view field) const override {
    return file_.path() + ": " + GgufKeyOf(architecture_, field);
  }
  const ModelConfig& config() const override { return config_; }
  const GenerationConfig& generation_config() const override { return generation_; }
  const GgufTokenizerData* gguf_tokenizer() const override {
    return tokenizer_.tokens.empty() ? nullptr : &tokenizer_;
  }
  std::optional<TensorInfo> Find(const std::string& name) const override;
  std::vector<std::string> Names() const override;
  int64_t FileBytes() const override { return static_cast<int64_t>(file_.bytes().size()); }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const override;
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const override;
  BlockFormat BlockFormatOf(const std::string& name) const override;
  Status ReadBlocks(const std::string& name, int64_t row, BlockRow* out) const override;
  const BF16* MappedBF16(const std::string& name) const override;
  void WillNeed(const std::string& name) const override;
  void DontNeed(const std::string& name) const override;

 private:
  struct Tensor {
    GgufTensor stored;
    int64_t rows = 1;          // the first dimension
    int64_t row_elements = 1;  // the product of the others
    int64_t row_bytes = 0;
    bool permuted = false;  // Llama's query and key rows

    GgufTensorType type() const { return static_cast<GgufTensorType>(stored.type); }
  };

  Status AddTensor(const std::string& gguf_name, const GgufTensor& stored, bool llama);
  // Null with a Status where the tensor is missing or the rows are not its.
  Expected<const Tensor*> FindRows(const std::string& name, int64_t begin, int64_t end) const;
  const uint8_t* Row(const Tensor& tensor, int64_t row) const;
  const Tensor* FindTensor(const std::string& name) const {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : &it->second;
  }

  platform::MappedFile file_;
  std::string architecture_;
  ModelConfig config_;
  GenerationConfig generation_;
  GgufTokenizerData tokenizer_;
  std::unordered_map<std::string, Tensor> tensors_;
};

Expected<std::unique_ptr<Checkpoint>> GgufCheckpoint::Open(const std::string& path,
                                                           std::string_view hf_overrides) {
  auto checkpoint = std::make_unique<GgufCheckpoint>();
  ASSIGN_OR_RETURN(checkpoint->file_, platform::MappedFile::Open(path));
  const std::span<const uint8_t> bytes = checkpoint->file_.bytes();
  ASSIGN_OR_RETURN(const GgufFile parsed, GgufFile::Parse(bytes, path));
  ASSIGN_OR_RETURN(checkpoint->config_, GgufModelConfig(parsed, bytes, hf_overrides, path));
  ASSIGN_OR_RETURN(checkpoint->tokenizer_, ReadGgufTokenizer(parsed, path));
  checkpoint->architecture_ = parsed.String("general.architecture").value_or("");
  const bool llama = checkpoint->architecture_ == "llama";
  for (const auto& [name, tensor] : parsed.tensors()) {
    RETURN_IF_ERROR(checkpoint->AddTensor(name, tensor, llama));
  }
  return checkpoint;
}

Status GgufCheckpoint::AddTensor(const std::string& gguf_name, const GgufTensor& stored,
                                 bool llama) {
  Tensor tensor;
  tensor.stored = stored;
  for (size_t i = 0; i < stored.shape.size(); ++i) {
    (i == 0 ? tensor.rows : tensor.row_elements) *= stored.shape[i];
  }
  const GgufBlock block = *GgufBlockOf(stored.type);
  if (tensor.row_elements % block.elements != 0) {
    return Unimplemented("{}: tensor \"{}\": found a vector of type {}, expected F32, F16 or BF16",
                         file_.path(), gguf_name, GgufTypeName(stored.type));
  }
  tensor.row_bytes = tensor.row_elements / block.elements * block.bytes;
  const std::string name = HuggingFaceName(gguf_name);
  // llama.cpp's converter interleaves the halves of each head of these two for its own rotary
  // embedding (and only in the architecture "llama").
  const bool query_or_key = name.find(".self_attn.q_proj.") != std::string::npos ||
                            name.find(".self_attn.k_proj.") != std::string::npos;
  tensor.permuted = llama && query_or_key;
  if (tensor.permuted && tensor.rows % config_.head_dim != 0) {
    return InvalidArgument(
        "{}: tensor \"{}\": found {} rows, expected a multiple of the head's "
        "size {}",
        file_.path(), gguf_name, tensor.rows, config_.head_dim);
  }
  if (!tensors_.emplace(name, std::move(tensor)).second) {
    return InvalidArgument("{}: tensor \"{}\" is there twice", file_.path(), name);
  }
  return OkStatus();
}

std::optional<TensorInfo> GgufCheckpoint::Find(const std::string& name) const {
  const Tensor* tensor = FindTensor(name);
  if (tensor == nullptr) return std::nullopt;
  return TensorInfo{tensor->stored.shape, GgufTypeName(tensor->stored.type)};
}

std::vector<std::string> GgufCheckpoint::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

Expected<const GgufCheckpoint::Tensor*> GgufCheckpoint::FindRows(const std::string& name,
                                                                 int64_t begin, int64_t end) const {
  const Tensor* tensor = FindTensor(name);
  if (tensor == nullptr) {
    return Unexpected(NotFound("{}: tensor \"{}\" is missing", file_.path(), name));
  }
  if (begin < 0 || begin > end || end > tensor->rows) {
    return Unexpected(InvalidArgument("{}: tensor \"{}\": rows {} to {} were asked for, it has {}",
                                      file_.path(), name, begin, end, tensor->rows));
  }
  return tensor;
}

const uint8_t* GgufCheckpoint::Row(const Tensor& tensor, int64_t row) const {
  if (tensor.permuted) {
    // Hugging Face's row (head, half, i) is stored as (head, i, half).
    const int64_t half = config_.head_dim / 2;
    const int64_t in_head = row % config_.head_dim;
    row += in_head % half * 2 + in_head / half - in_head;
  }
  return file_.bytes().data() + tensor.stored.begin + row * tensor.row_bytes;
}

Status GgufCheckpoint::ReadRows(const std::string& name, int64_t begin, int64_t end,
                                float* out) const {
  ASSIGN_OR_RETURN(const Tensor* tensor, FindRows(name, begin, end));
  for (int64_t row = begin; row < end; ++row, out += tensor->row_elements) {
    Dequantize(tensor->type(), Row(*tensor, row), tensor->row_elements, out);
  }
  return OkStatus();
}

Status GgufCheckpoint::ReadRows(const std::string& name, int64_t begin, int64_t end,
                                BF16* out) const {
  ASSIGN_OR_RETURN(const Tensor* tensor, FindRows(name, begin, end));
  std::vector<float> values;
  if (tensor->type() != GgufTensorType::kBF16) {
    values.resize(static_cast<size_t>(tensor->row_elements));
  }
  for (int64_t row = begin; row < end; ++row, out += tensor->row_elements) {
    if (values.empty()) {  // a NaN's bits survive
      Convert(Row(*tensor, row), DType::kBF16, tensor->row_elements, out);
    } else {
      Dequantize(tensor->type(), Row(*tensor, row), tensor->row_elements, values.data());
      RoundToBF16(values.data(), tensor->row_elements, out);
    }
  }
  return OkStatus();
}

BlockFormat GgufCheckpoint::BlockFormatOf(const std::string& name) const {
  const Tensor* tensor = FindTensor(name);
  return tensor == nullptr ? BlockFormat::kNone : checkpoint::BlockFormatOf(tensor->type());
}

Status GgufCheckpoint::ReadBlocks(const std::string& name, int64_t row, BlockRow* out) const {
  ASSIGN_OR_RETURN(const Tensor* tensor, FindRows(name, row, row + 1));
  checkpoint::ReadBlocks(tensor->type(), Row(*tensor, row), tensor->row_elements, out);
  return OkStatus();
}

const BF16* GgufCheckpoint::MappedBF16(const std::string& name) const {
  const Tensor* tensor = FindTensor(name);
  if (tensor == nullptr || tensor->type() != GgufTensorType::kBF16 || tensor->permuted ||
      tensor->stored.begin % alignof(BF16) != 0) {
    return nullptr;
  }
  return reinterpret_cast<const BF16*>(file_.bytes().data() + tensor->stored.begin);
}

void GgufCheckpoint::WillNeed(const std::string& name) const {
  if (const Tensor* t = FindTensor(name)) {
    file_.WillNeed(t->stored.begin, t->stored.end - t->stored.begin);
  }
}

void GgufCheckpoint::DontNeed(const std::string& name) const {
  if (const Tensor* t = FindTensor(name)) {
    file_.DontNeed(t->stored.begin, t->stored.end - t->stored.begin);
  }
}

}  // namespace

Expected<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path,
                                               std::string_view hf_overrides) {
  return GgufCheckpoint::Open(path, hf_overrides);
}

}  // namespace tiercel::checkpoint
