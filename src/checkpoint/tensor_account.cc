#include "checkpoint/tensor_account.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "checkpoint/kv_tensor_scales.h"
#include "checkpoint/tensor_reader.h"

namespace tiercel::checkpoint {
namespace {

// What quantized linears have beside their weights, under the names of both formats.
constexpr std::string_view kQuantizationEnds[] = {
    ".weight_scale", ".weight_offset",    ".weight_zero_point", ".input_scale",
    ".input_offset", ".input_zero_point", ".deq_scale",         ".quant_bias",
    ".bias",         ".kv_cache_scale",   ".kv_cache_offset"};

void AddLinear(const std::string& name, int64_t n, int64_t k, bool bias,
               std::vector<PlannedShape>* tensors) {
  tensors->push_back({name + ".weight", {n, k}});
  if (bias) tensors->push_back({name + ".bias", {n}});
}

// "a, b, c and 7 more"
std::string FirstOf(const std::vector<std::string>& names) {
  constexpr size_t kShown = 4;
  constexpr size_t kLongest = 120;
  std::string text;
  for (size_t i = 0; i < names.size() && i < kShown; ++i) {
    text += (i > 0 ? ", " : "") + names[i].substr(0, kLongest);
  }
  if (names.size() > kShown) text += fmt::format(" and {} more", names.size() - kShown);
  return text;
}

// The number in "model.layers.12.mlp…" and in GGUF's "blk.12.…"; nullopt for names of no layer.
std::optional<int64_t> LayerOf(std::string_view name) {
  for (const std::string_view start : {"model.layers.", "blk."}) {
    if (!name.starts_with(start)) continue;
    name.remove_prefix(start.size());
    int64_t layer = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
    const bool whole = error == std::errc() && end != name.data() + name.size() && *end == '.';
    return whole && layer >= 0 ? std::optional(layer) : std::nullopt;
  }
  return std::nullopt;
}

class Account {
 public:
  Account(const Checkpoint& checkpoint, Head head)
      : checkpoint_(checkpoint),
        ascend_(checkpoint.quantization().method() == QuantMethod::kAscend),
        names_(checkpoint.Names()) {
    for (PlannedShape& tensor : TensorsOf(checkpoint.config(), head)) {
      const bool there = checkpoint.Find(tensor.name).has_value();
      if (!there && !MayBeAbsent(tensor.name)) missing_.push_back(tensor.name);
      wanted_.insert(std::move(tensor.name));
    }
  }

  Status CheckMissing() const;
  Status CheckLayers() const;
  std::vector<std::string> Warnings() const;

 private:
  // Static linears of that format have their bias inside quant_bias.
  bool MayBeAbsent(const std::string& name) const { return ascend_ && name.ends_with(".bias"); }
  bool IsKnown(const std::string& name) const;
  bool BelongsToQuantization(const std::string& name) const;
  std::string MissingHint() const;

  const Checkpoint& checkpoint_;
  const bool ascend_;
  const std::vector<std::string> names_;
  std::unordered_set<std::string> wanted_;
  std::vector<std::string> missing_;
};

// Why names of the configuration are not in the files, where it can be seen.
std::string Account::MissingHint() const {
  const ModelConfig& config = checkpoint_.config();
  int64_t layers = 0;
  for (const std::string& name : names_) {
    if (const auto layer = LayerOf(name)) layers = std::max(layers, *layer + 1);
  }
  if (layers > 0 && layers < config.num_layers) {
    return fmt::format("; the files hold {} layers, num_hidden_layers is {}: config.json belongs to "
                       "another model, or files are missing",
                       layers, config.num_layers);
  }
  constexpr std::string_view kModel = "model.";
  for (const std::string& name : missing_) {
    if (!name.starts_with(kModel)) continue;
    const std::string bare = name.substr(kModel.size());
    const auto other = std::find_if(names_.begin(), names_.end(), [&](const std::string& found) {
      return found == bare || found.ends_with("." + bare);
    });
    if (other == names_.end()) continue;
    return fmt::format("; found \"{}\" where \"{}\" is expected: names begin with \"model.\"; save "
                       "the model as a causal language model (AutoModelForCausalLM), or rename them",
                       other->substr(0, 120), name);
  }
  if (missing_.front() == "lm_head.weight") {
    return "; tie_word_embeddings is false in config.json, so lm_head.weight must be there (set it "
           "to true if the model shares its embeddings)";
  }
  return "";
}

Status Account::CheckMissing() const {
  if (missing_.empty()) return OkStatus();
  // The checkpoint's own message names the file.
  std::string message = CheckTensor(checkpoint_, missing_.front(), {}).message();
  if (missing_.size() > 1) {
    message += fmt::format("; {} of {} tensors of the configuration are missing: {}",
                           missing_.size(), wanted_.size(), FirstOf(missing_));
  }
  return NotFound("{}{}", message, MissingHint());
}

Status Account::CheckLayers() const {
  const int64_t layers = checkpoint_.config().num_layers;
  std::vector<std::string> beyond;
  std::set<int64_t> numbers;
  for (const std::string& name : names_) {
    const auto layer = LayerOf(name);
    if (!layer || *layer < layers || name.find("rotary_emb.") != std::string::npos) continue;
    numbers.insert(*layer);
    beyond.push_back(name);
  }
  if (beyond.empty()) return OkStatus();
  return InvalidArgument("{} is {}, and the files hold {} tensors of {} more layers "
                         "({}); it belongs to another model, or files of several lie in "
                         "the folder",
                         checkpoint_.PlaceOf("num_hidden_layers"), layers, beyond.size(), numbers.size(), FirstOf(beyond));
}

bool Account::BelongsToQuantization(const std::string& name) const {
  const Quantization& quantization = checkpoint_.quantization();
  if (quantization.method() == QuantMethod::kNone) return false;
  // Old descriptions list tensors a second time; norms may have a bias.
  if (ascend_ && name.find(".module.") != std::string::npos) return true;
  for (const std::string_view end : kQuantizationEnds) {
    if (!name.ends_with(end)) continue;
    const std::string linear = name.substr(0, name.size() - end.size());
    if (!wanted_.contains(linear + ".weight")) return false;
    if (end == ".bias") return ascend_;
    if (end.starts_with(".kv_cache_")) return quantization.kv_cache() == DType::kI8;
    const auto scheme = quantization.SchemeOf(linear, checkpoint_.Find(linear + ".weight")->type);
    return !scheme || *scheme != LinearScheme::kFloat;
  }
  return false;
}

bool Account::IsKnown(const std::string& name) const {
  if (wanted_.contains(name) || BelongsToQuantization(name) || IsKvTensorScale(name)) return true;
  // Computed from the configuration; the loader says so of a head that is not used.
  return name.find("rotary_emb.") != std::string::npos || name == "rope_freqs.weight" ||
         name == "lm_head.weight";
}

std::vector<std::string> Account::Warnings() const {
  std::vector<std::string> unread;
  std::copy_if(names_.begin(), names_.end(), std::back_inserter(unread),
               [&](const std::string& name) { return !IsKnown(name); });
  if (unread.empty()) return {};
  // A Status, for its escapes: the names are the file's.
  const Status text = InvalidArgument(
      "{} of {} tensors in the files are not read, the configuration does not know them: {}",
      unread.size(), names_.size(), FirstOf(unread));
  return {text.message()};
}

}  // namespace

std::vector<PlannedShape> TensorsOf(const ModelConfig& c, Head head) {
  std::vector<PlannedShape> tensors;
  const int64_t hidden = c.hidden_size;
  const int64_t q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  tensors.push_back({"model.embed_tokens.weight", {c.vocab_size, hidden}});
  const PoolingConfig& pooling = c.pooling;
  const bool has_score = pooling.num_labels > 0 && pooling.classifier_from_token.empty();
  const bool reads_head = head == Head::kLogits || !pooling.classifier_from_token.empty();
  if (reads_head && !c.tie_word_embeddings) {
    tensors.push_back({"lm_head.weight", {c.vocab_size, hidden}});
  }
  if (has_score) tensors.push_back({"score.weight", {pooling.num_labels, hidden}});
  tensors.push_back({"model.norm.weight", {hidden}});
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    const std::string attention = layer + "self_attn.", mlp = layer + "mlp.";
    tensors.push_back({layer + "input_layernorm.weight", {hidden}});
    tensors.push_back({layer + "post_attention_layernorm.weight", {hidden}});
    AddLinear(attention + "q_proj", q, hidden, c.qkv_bias, &tensors);
    AddLinear(attention + "k_proj", kv, hidden, c.qkv_bias, &tensors);
    AddLinear(attention + "v_proj", kv, hidden, c.qkv_bias, &tensors);
    AddLinear(attention + "o_proj", hidden, q, c.o_bias, &tensors);
    if (c.qk_norm) {
      tensors.push_back({attention + "q_norm.weight", {c.head_dim}});
      tensors.push_back({attention + "k_norm.weight", {c.head_dim}});
    }
    AddLinear(mlp + "gate_proj", c.intermediate_size, hidden, c.mlp_bias, &tensors);
    AddLinear(mlp + "up_proj", c.intermediate_size, hidden, c.mlp_bias, &tensors);
    AddLinear(mlp + "down_proj", hidden, c.intermediate_size, c.mlp_bias, &tensors);
  }
  return tensors;
}

Expected<std::vector<std::string>> AccountForTensors(const Checkpoint& checkpoint, Head head) {
  const Account account(checkpoint, head);
  RETURN_IF_ERROR(account.CheckMissing());
  RETURN_IF_ERROR(account.CheckLayers());
  return account.Warnings();
}

}  // namespace tiercel::checkpoint
