#include "model/load_model.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/log.h"
#include "checkpoint/kv_tensor_scales.h"
#include "checkpoint/tensor_account.h"
#include "checkpoint/tensor_reader.h"
#include "model/stages.h"

namespace tiercel::model {
namespace {

// What the operators take beyond what a configuration may say.
Status CheckRunnable(const checkpoint::Checkpoint& checkpoint) {
  const checkpoint::ModelConfig& c = checkpoint.config();
  if (c.head_dim % 32 != 0 || c.head_dim > kernels::kMaxHeadDim) {
    return Unimplemented("{}: found {}, expected a multiple of 32 up to {}", checkpoint.PlaceOf("head_dim"), c.head_dim,
                         kernels::kMaxHeadDim);
  }
  if (c.hidden_size % kColumnGroup != 0) {
    return Unimplemented("{}: found {}, expected a multiple of {}", checkpoint.PlaceOf("hidden_size"), c.hidden_size,
                         kColumnGroup);
  }
  if (c.num_heads % c.num_kv_heads != 0) {
    return InvalidArgument("{}: found {}, expected a multiple of num_key_value_heads ({})",
                           checkpoint.PlaceOf("num_attention_heads"), c.num_heads, c.num_kv_heads);
  }
  return OkStatus();
}

double BytesOfWeight(BlockFormat format) {
  const BlockFormatInfo info = InfoOf(format);
  return static_cast<double>(info.UnitBytes()) / static_cast<double>(info.unit * kStripColumns);
}

// What the weights take at least is known before any of them is read: a configuration that asks for
// more than memory and disk have is refused before anything is planned or allocated.
Status CheckFits(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options) {
  const bool int8 = options.quantize != checkpoint::QuantizeTo::kNone || checkpoint.quantization().method() != checkpoint::QuantMethod::kNone;
  double least = 0;
  for (const checkpoint::PlannedShape& tensor : checkpoint::TensorsOf(checkpoint.config(), options.head)) {
    const BlockFormat blocks = options.keep_blocks ? checkpoint.BlockFormatOf(tensor.name) : BlockFormat::kNone;
    double bytes = blocks != BlockFormat::kNone ? BytesOfWeight(blocks)
                   : options.quantize == checkpoint::QuantizeTo::kInt4 ? BytesOfWeight(BlockFormat::kI4)
                   : int8                                  ? 1
                                                           : 2;
    for (const int64_t dimension : tensor.shape) bytes *= static_cast<double>(dimension);
    least += bytes;
  }
  const double memory = static_cast<double>(std::max<int64_t>(0, options.max_bytes_in_memory));
  double disk = 0;
  for (const std::string& folder : options.disk_folders) {
    std::error_code error;
    const std::filesystem::space_info space = std::filesystem::space(folder, error);
    if (error) return OkStatus();  // the loader's to refuse, with the folder's name
    disk = std::max(disk, static_cast<double>(space.available));
  }
  if (least <= memory + disk) return OkStatus();
  constexpr double kGiB = 1 << 30;
  return ResourceExhausted("the weights of this configuration do not fit into memory: they take at "
                           "least {:.2f} GiB, and there is room for {:.2f} GiB in memory and {:.2f} GiB "
                           "on disk; use a smaller model (or INT8: --quantization int8), or free some "
                           "space",
                           least / kGiB, memory / kGiB, disk / kGiB);
}

// "Q4_K 12, Q5_0 144, Q6_K 12, Q8_0 1: kept as they are, INT8 inputs …"; "" where no matrix is of a block format.
std::string DescribeBlocks(const checkpoint::Checkpoint& checkpoint) {
  std::map<std::string, int> counts;
  bool fp8 = false;
  for (const std::string& name : checkpoint.Names()) {
    const BlockFormat format = checkpoint.BlockFormatOf(name);
    if (format != BlockFormat::kNone) ++counts[InfoOf(format).name];
    fp8 = fp8 || format == BlockFormat::kF8;
  }
  std::string text;
  for (const auto& [format, count] : counts) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", format, count);
  if (text.empty()) return "";
  return text + ": kept as they are, " + (fp8 ? "BF16 inputs" : "INT8 inputs with a scale for each 128");
}

// "ascend: of 196 linears, 188 W8A8 static, 8 float", for the log; "" for a float model.
std::string DescribeQuantization(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options) {
  const checkpoint::Quantization& quantization = checkpoint.quantization();
  if (quantization.method() == checkpoint::QuantMethod::kNone) {
    switch (options.quantize) {
      case checkpoint::QuantizeTo::kInt8: return "INT8, quantized while loading, inputs per token";
      case checkpoint::QuantizeTo::kInt4:
        return "INT4, quantized while loading: a scale for each 128 of a row, INT8 inputs with one for each 128";
      case checkpoint::QuantizeTo::kNone: return options.keep_blocks ? DescribeBlocks(checkpoint) : "";
    }
  }
  int64_t count[7] = {};
  int64_t total = 0;
  for (const std::string& name : checkpoint.Names()) {
    constexpr std::string_view kEnd = "_proj.weight";
    if (!name.starts_with("model.layers.") || !name.ends_with(kEnd)) continue;
    const std::string linear = name.substr(0, name.size() - std::string_view(".weight").size());
    const auto scheme = quantization.SchemeOf(linear, checkpoint.Find(name)->type);
    if (!scheme) continue;  // the loader's to refuse
    ++count[static_cast<int>(*scheme)];
    ++total;
  }
  std::string text = fmt::format("{}: of {} linears", Name(quantization.method()), total);
  const auto add = [&](checkpoint::LinearScheme scheme, std::string_view what) {
    const int64_t n = count[static_cast<int>(scheme)];
    if (n > 0) text += fmt::format(", {} {}", n, what);
  };
  add(checkpoint::LinearScheme::kStatic, "W8A8 static");
  add(checkpoint::LinearScheme::kDynamic, "W8A8 per token");
  add(checkpoint::LinearScheme::kMix, options.mix_static ? "W8A8_MIX read as static" : "W8A8_MIX read per token");
  add(checkpoint::LinearScheme::kWeightOnly, "W8A16 dequantized to BF16");
  add(checkpoint::LinearScheme::kInt4, options.keep_blocks ? "W4A8 kept as they are" : "W4A8 dequantized to BF16");
  add(checkpoint::LinearScheme::kInt4WeightOnly,
      options.keep_blocks ? "W4A16 kept as they are, with INT8 inputs" : "W4A16 dequantized to BF16");
  add(checkpoint::LinearScheme::kFloat, "float");
  return text;
}

// The page cache has its pages where a process first read them, not where the worker runs that reads them now.
void WarnOfNodes(std::span<kernels::Environment* const> environments) {
  std::set<int> nodes;
  for (const kernels::Environment* environment : environments) nodes.insert(environment->nodes.begin(), environment->nodes.end());
  if (nodes.size() > 1) {
    LOG_WARNING("--load-format packed: the weights lie in the page cache, on any of the {} NUMA nodes: steps may take longer "
                "than with weights that each start packs on its workers' own nodes", nodes.size());
  }
}

void LogStage(const checkpoint::ModelConfig& config, const WeightOptions& options) {
  if (options.stages == 1) return;
  const int stage = comm::RankPlaces::Of(options.process, options.stages, 1).stage;
  const Range layers = LayersOf(config, options, stage);
  LOG_INFO("Stage {} of {}: layers {} to {} of {}", stage, options.stages, layers.begin, layers.end - 1, config.num_layers);
}

}  // namespace

Expected<std::unique_ptr<CausalLm>> LoadModel(const checkpoint::Checkpoint& checkpoint,
                                              const LoadOptions& options,
                                              kernels::Environment* environment,
                                              LoadProgress progress) {
  ASSIGN_OR_RETURN(std::vector<std::unique_ptr<CausalLm>> models,
                   LoadModels(checkpoint, options, {&environment, 1}, progress));
  return std::move(models[0]);
}

Expected<LoadedWeights> LoadSharedWeights(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options,
                                          std::span<kernels::Environment* const> environments,
                                          LoadProgress progress) {
  RETURN_IF_ERROR(CheckRunnable(checkpoint));
  ASSIGN_OR_RETURN(const std::vector<std::string> unread, checkpoint::AccountForTensors(checkpoint, options.head));
  for (const std::string& warning : unread) LOG_WARNING("{}", warning);
  RETURN_IF_ERROR(CheckFits(checkpoint, options));
  for (const std::string& notice : checkpoint.quantization().notices()) LOG_WARNING("{}", notice);
  const std::string quantization = DescribeQuantization(checkpoint, options);
  if (!quantization.empty()) LOG_INFO("Quantization: {}", quantization);
  if (options.kv_dtype.value_or(checkpoint.quantization().kv_cache().value_or(DType::kBF16)) == DType::kF8E4M3) {
    const std::vector<std::string> names = checkpoint.Names();
    LOG_INFO("KV cache: FP8 (E4M3), {}", std::any_of(names.begin(), names.end(), checkpoint::IsKvTensorScale)
                                            ? "with the checkpoint's scales"
                                            : "scale 1: the checkpoint has none");
  }

  if (!options.packed.path.empty()) WarnOfNodes(environments);

  LoadedWeights loaded{checkpoint.config(), {}};
  std::map<std::vector<int>, SharedWeights> copies;  // by the workers' nodes
  for (kernels::Environment* environment : environments) {
    platform::WorkerTeam& team = *environment->team;
    RETURN_IF_ERROR(CheckStages(checkpoint.config(), options));
    LogStage(checkpoint.config(), options);
    RETURN_IF_ERROR(checkpoint::CheckTensorParallelSize(checkpoint.config(), team.ranks() * options.process.count / options.stages));
    SharedWeights& weights = copies[environment->nodes];
    if (weights == nullptr) {
      WeightOptions of_team = options;
      of_team.shares = environment->shares;
      auto ranks = LoadRanks(checkpoint, of_team, team, progress);
      if (!ranks) return Unexpected(checkpoint::WithPath(checkpoint, std::move(ranks).error()));
      weights = std::make_shared<const std::vector<Weights>>(*std::move(ranks));
    }
    loaded.each.push_back(weights);
  }
  return loaded;
}

std::vector<std::unique_ptr<CausalLm>> MakeModels(const LoadedWeights& weights, const LoadOptions& options,
                                                  std::span<kernels::Environment* const> environments) {
  std::vector<std::unique_ptr<CausalLm>> models;
  for (size_t i = 0; i < environments.size(); ++i) {
    models.push_back(std::make_unique<CpuCausalLm>(weights.config, weights.each[i], options.graph,
                                                   options.prefetch, environments[i], options.transport,
                                                   options.weights.stages));
  }
  return models;
}

Expected<std::vector<std::unique_ptr<CausalLm>>> LoadModels(
    const checkpoint::Checkpoint& checkpoint, const LoadOptions& options,
    std::span<kernels::Environment* const> environments, LoadProgress progress) {
  ASSIGN_OR_RETURN(const LoadedWeights weights,
                   LoadSharedWeights(checkpoint, options.weights, environments, progress));
  return MakeModels(weights, options, environments);
}

}  // namespace tiercel::model
