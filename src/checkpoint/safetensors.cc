#include "checkpoint/safetensors.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <utility>

#include "checkpoint/convert.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/safetensors_header.h"
#include "platform/mapped_file.h"

namespace tiercel::checkpoint {
namespace {

constexpr char kIndexName[] = "model.safetensors.index.json";
constexpr char kIndexSuffix[] = ".safetensors.index.json";
constexpr char kQuantizedPrefix[] = "quant_model_weight";
constexpr size_t kMaxIndexBytes = size_t{16} << 20;  // 100 bytes a tensor

class SafetensorsCheckpoint final : public Checkpoint {
 public:
  SafetensorsCheckpoint(std::string folder, ModelConfig config, GenerationConfig generation,
                        Quantization quantization)
      : folder_(std::move(folder)),
        config_(std::move(config)),
        generation_(std::move(generation)),
        quantization_(std::move(quantization)) {}

  Status AddShard(const std::string& file_name);
  // Every tensor that the index names is in the shard that it names.
  Status CheckIndex(const std::string& index_name,
                    const std::vector<std::pair<std::string, std::string>>& weight_map) const;

  // Files of the bare network (AutoModel, as embedding models have it) have their names without the
  // "model." that all else here expects.
  void NameAsCausalLm();

  std::string path() const override { return folder_; }
  const ModelConfig& config() const override { return config_; }
  const GenerationConfig& generation_config() const override { return generation_; }
  const Quantization& quantization() const override { return quantization_; }
  std::optional<TensorInfo> Find(const std::string& name) const override;
  std::vector<std::string> Names() const override;
  int64_t FileBytes() const override;
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const override {
    return Read(name, begin, end, out);
  }
  Status ReadRows(const std::string& name, int64_t begin, int64_t end, float* out) const override {
    return Read(name, begin, end, out);
  }
  const BF16* MappedBF16(const std::string& name) const override;
  const uint8_t* MappedBytes(const std::string& name) const override {
    const Tensor* tensor = FindTensor(name);
    return tensor == nullptr ? nullptr : Data(*tensor);
  }
  void WillNeed(const std::string& name) const override;
  void DontNeed(const std::string& name) const override;

 private:
  struct Tensor {
    SafetensorsEntry entry;
    size_t shard = 0;
    int64_t rows = 1;          // the first dimension
    int64_t row_elements = 1;  // the product of the others
  };

  const Tensor* FindTensor(const std::string& name) const {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : &it->second;
  }
  const uint8_t* Data(const Tensor& tensor) const {
    return shards_[tensor.shard].bytes().data() + tensor.entry.begin;
  }
  template <typename T>
  Status Read(const std::string& name, int64_t begin, int64_t end, T* out) const;

  std::string folder_;
  ModelConfig config_;
  GenerationConfig generation_;
  Quantization quantization_;
  std::vector<platform::MappedFile> shards_;
  std::unordered_map<std::string, Tensor> tensors_;
};

Status SafetensorsCheckpoint::AddShard(const std::string& file_name) {
  ASSIGN_OR_RETURN(platform::MappedFile file,
                   platform::MappedFile::Open(folder_ + "/" + file_name));
  ASSIGN_OR_RETURN(SafetensorsHeader header, ParseSafetensorsHeader(file.bytes(), file.path()));
  for (auto& [name, entry] : header) {
    Tensor tensor;
    tensor.shard = shards_.size();
    for (size_t i = 0; i < entry.shape.size(); ++i) {
      (i == 0 ? tensor.rows : tensor.row_elements) *= entry.shape[i];
    }
    tensor.entry = std::move(entry);
    const auto [it, inserted] = tensors_.emplace(name, std::move(tensor));
    if (!inserted) {
      return InvalidArgument(
          "{}: tensor \"{}\" is also in {}; remove the file that does not "
          "belong to the model",
          file.path(), name, shards_[it->second.shard].path());
    }
  }
  shards_.push_back(std::move(file));
  return OkStatus();
}

Status SafetensorsCheckpoint::CheckIndex(
    const std::string& index_name,
    const std::vector<std::pair<std::string, std::string>>& weight_map) const {
  for (const auto& [name, file_name] : weight_map) {
    const Tensor* tensor = FindTensor(name);
    if (tensor != nullptr && shards_[tensor->shard].path() == folder_ + "/" + file_name) continue;
    return InvalidArgument(
        "{}/{}: says that {} holds tensor \"{}\", which is not there; the files "
        "are from different versions, download them again",
        folder_, index_name, file_name, name);
  }
  return OkStatus();
}

void SafetensorsCheckpoint::NameAsCausalLm() {
  const std::string prefix = "model.", embedding = "embed_tokens.weight";
  if (!tensors_.contains(embedding) || tensors_.contains(prefix + embedding)) return;
  std::unordered_map<std::string, Tensor> renamed;
  for (auto& [name, tensor] : tensors_) {
    const bool in_network = name == embedding || name == "norm.weight" || name.starts_with("layers.");
    renamed.emplace(in_network ? prefix + name : name, std::move(tensor));
  }
  tensors_ = std::move(renamed);
}

std::optional<TensorInfo> SafetensorsCheckpoint::Find(const std::string& name) const {
  const Tensor* tensor = FindTensor(name);
  if (tensor == nullptr) return std::nullopt;
  return TensorInfo{tensor->entry.shape, tensor->entry.dtype};
}

std::vector<std::string> SafetensorsCheckpoint::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

int64_t SafetensorsCheckpoint::FileBytes() const {
  int64_t bytes = 0;
  for (const platform::MappedFile& shard : shards_) {
    bytes += static_cast<int64_t>(shard.bytes().size());
  }
  return bytes;
}

template <typename T>
Status SafetensorsCheckpoint::Read(const std::string& name, int64_t begin, int64_t end,
                                   T* out) const {
  const Tensor* tensor = FindTensor(name);
  if (tensor == nullptr) {
    return NotFound("{}: tensor \"{}\" is missing{}", folder_, name,
                    shards_.size() == 1 ? "" : fmt::format(" in all {} shards", shards_.size()));
  }
  const std::string& path = shards_[tensor->shard].path();
  const std::optional<DType> type = ConvertibleType(tensor->entry.dtype);
  if (!type) {
    return Unimplemented("{}: tensor \"{}\": found dtype {}, expected BF16, F16 or F32", path, name,
                         tensor->entry.dtype);
  }
  if (begin < 0 || begin > end || end > tensor->rows) {
    return InvalidArgument("{}: tensor \"{}\": rows {} to {} were asked for, it has {}", path, name,
                           begin, end, tensor->rows);
  }
  const int64_t row_bytes = tensor->row_elements * static_cast<int64_t>(SizeOf(*type));
  Convert(Data(*tensor) + begin * row_bytes, *type, (end - begin) * tensor->row_elements, out);
  return OkStatus();
}

const BF16* SafetensorsCheckpoint::MappedBF16(const std::string& name) const {
  const Tensor* tensor = FindTensor(name);
  // Nothing in the format aligns the data.
  if (tensor == nullptr || tensor->entry.dtype != "BF16" || tensor->entry.begin % alignof(BF16)) {
    return nullptr;
  }
  return reinterpret_cast<const BF16*>(Data(*tensor));
}

void SafetensorsCheckpoint::WillNeed(const std::string& name) const {
  if (const Tensor* t = FindTensor(name)) {
    shards_[t->shard].WillNeed(t->entry.begin, t->entry.end - t->entry.begin);
  }
}

void SafetensorsCheckpoint::DontNeed(const std::string& name) const {
  if (const Tensor* t = FindTensor(name)) {
    shards_[t->shard].DontNeed(t->entry.begin, t->entry.end - t->entry.begin);
  }
}

using WeightMap = std::vector<std::pair<std::string, std::string>>;

Expected<WeightMap> ReadIndex(const std::string& folder, const std::string& index_name) {
  const std::string path = folder + "/" + index_name;
  ASSIGN_OR_RETURN(const platform::MappedFile file, platform::MappedFile::Open(path));
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  ASSIGN_OR_RETURN(const Json index, ParseJsonObject(text, path, kMaxIndexBytes));
  const JsonFields fields(index, path);
  const Json* entries = fields.Get("weight_map");
  if (entries == nullptr || !entries->is_object() || entries->empty()) {
    return Unexpected(fields.Wrong("weight_map", "an object of tensor names and file names"));
  }
  WeightMap map;
  for (const auto& [name, file_name] : entries->items()) {
    const std::string shard = file_name.is_string() ? file_name.get<std::string>() : "";
    // A name that leads out of the folder is an attack or a mistake.
    if (shard.empty() || shard.find_first_of("/\\") != std::string::npos || shard == "..") {
      return Unexpected(
          InvalidArgument("{}: weight_map: {}: found {}, expected the name of a file "
                          "in the same folder",
                          path, name, ShowJson(file_name)));
    }
    map.emplace_back(name, shard);
  }
  return map;
}

// What "model-00002-of-00005.safetensors" says, for folders that lost their index.
int64_t ShardCountInName(const std::string& name) {
  const size_t at = name.rfind("-of-");
  if (at == std::string::npos) return 0;
  int64_t count = 0;
  for (size_t i = at + 4; i < name.size() && name[i] >= '0' && name[i] <= '9'; ++i) {
    count = std::min<int64_t>(count * 10 + (name[i] - '0'), 1 << 20);
  }
  return count;
}

Status CheckAllPresent(const std::string& folder, const std::string& index_name,
                       const std::set<std::string>& shards) {
  std::vector<std::string> missing;
  for (const std::string& shard : shards) {
    if (!Exists(folder + "/" + shard)) missing.push_back(shard);
  }
  if (missing.empty()) return OkStatus();
  return NotFound(
      "{}/{}: missing shard, listed in {}: {} of {} files are not there; the download "
      "is incomplete",
      folder, missing.front(), index_name, missing.size(), shards.size());
}

// Which files of the folder hold the model: an index by its name, or weight files.
struct WeightFiles {
  std::string index;  // empty: none
  std::vector<std::string> files;
};

Expected<WeightFiles> FindWeightFiles(const std::string& folder, QuantMethod method) {
  std::vector<std::string> indexes = ListFiles(folder, kIndexSuffix);
  std::vector<std::string> files = ListFiles(folder, ".safetensors");
  const auto other = [](const std::string& name) { return !name.starts_with(kQuantizedPrefix); };
  if (method == QuantMethod::kAscend &&
      !(std::all_of(files.begin(), files.end(), other) &&
        std::all_of(indexes.begin(), indexes.end(), other))) {
    std::erase_if(indexes, other);
    std::erase_if(files, other);
  }
  const auto has = [](const std::vector<std::string>& names, const char* name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (has(indexes, kIndexName)) return WeightFiles{kIndexName, {}};
  if (has(files, "model.safetensors")) return WeightFiles{"", {"model.safetensors"}};
  if (indexes.size() > 1) {
    return Unexpected(InvalidArgument("{}: found {} indexes ({}, {}), expected one; remove those of "
                                      "other weights",
                                      folder, indexes.size(), indexes[0], indexes[1]));
  }
  if (indexes.size() == 1) return WeightFiles{indexes[0], {}};
  return WeightFiles{"", std::move(files)};
}

}  // namespace

Expected<std::unique_ptr<Checkpoint>> OpenSafetensors(const std::string& folder, ModelConfig config,
                                                      GenerationConfig generation,
                                                      Quantization quantization) {
  ASSIGN_OR_RETURN(const WeightFiles found, FindWeightFiles(folder, quantization.method()));
  auto checkpoint = std::make_unique<SafetensorsCheckpoint>(
      folder, std::move(config), std::move(generation), std::move(quantization));
  if (!found.index.empty()) {
    ASSIGN_OR_RETURN(const WeightMap map, ReadIndex(folder, found.index));
    std::set<std::string> shards;
    for (const auto& [name, file_name] : map) shards.insert(file_name);
    RETURN_IF_ERROR(CheckAllPresent(folder, found.index, shards));
    for (const std::string& shard : shards) RETURN_IF_ERROR(checkpoint->AddShard(shard));
    RETURN_IF_ERROR(checkpoint->CheckIndex(found.index, map));
    checkpoint->NameAsCausalLm();
    return checkpoint;
  }
  for (const std::string& file : found.files) {
    const int64_t count = ShardCountInName(file);
    if (count > static_cast<int64_t>(found.files.size())) {
      return Unexpected(
          NotFound("{}: missing shards: {} says that there are {}, found {}, and no "
                   "{}; the download is incomplete",
                   folder, file, count, found.files.size(), kIndexName));
    }
    RETURN_IF_ERROR(checkpoint->AddShard(file));
  }
  checkpoint->NameAsCausalLm();
  return checkpoint;
}

}  // namespace tiercel::checkpoint
