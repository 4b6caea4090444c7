// The KV cache and offloading.
// Names and defaults are vLLM's; see option_table.h for what the columns mean.
#include "options/option_table.h"

namespace tiercel::options {
namespace {

constexpr OptionSpec kCacheConfig[] = {
    {"--block-size", Kind::kInt, "128", Effect::kUsed, "Tokens of a KV cache block."},
    {"--gpu-memory-utilization --device-memory-utilization", Kind::kFloat, "0.92", Effect::kUsed,
     "Share of the usable memory for weights, activations and KV cache, in (0, 1]."},
    {"--kv-cache-memory-bytes", Kind::kHumanInt, "", Effect::kUsed,
     "Size of the KV cache (1G, 500m …) instead of a share of the memory."},
    {"--kv-cache-dtype", Kind::kString, "auto", Effect::kUsed,
     "Element type of the KV cache: bfloat16; int8 with a scale for each token and head, or for "
     "each channel where the checkpoint has them (C8); fp8 (fp8_e4m3) with the checkpoint's k_scale and "
     "v_scale, or 1. auto is what the checkpoint is meant for, else bfloat16.",
     "auto|bfloat16|float16|fp8|fp8_e4m3|fp8_e5m2|fp8_inc|fp8_ds_mla|int8"},
    {"--num-gpu-blocks-override", Kind::kInt, "", Effect::kUsed,
     "Number of KV cache blocks, instead of what fits."},
    {"--enable-prefix-caching", Kind::kSwitch, "True", Effect::kUsed,
     "Reuse the KV cache of common prompt beginnings."},
    {"--prefix-caching-hash-algo", Kind::kString, "sha256", Effect::kNone,
     "Blocks are found by a 128-bit hash of their own.",
     "sha256|sha256_cbor|xxhash|xxhash_cbor"},
    {"--prefix-cache-retention-interval", Kind::kInt, "0", Effect::kNone,
     "For other kinds of models or devices."},
    {"--kv-cache-dtype-skip-layers", Kind::kStrings, "", Effect::kRefused,
     "The KV cache has one element type in all layers."},
    {"--kv-sharing-fast-prefill", Kind::kSwitch, "False", Effect::kNone,
     "For other kinds of models or devices."},
    {"--swa-bounded-replay", Kind::kSwitch, "True", Effect::kNone,
     "For other kinds of models or devices."},
    {"--mamba-cache-dtype", Kind::kString, "auto", Effect::kNone,
     "For other kinds of models or devices."},
    {"--mamba-ssm-cache-dtype", Kind::kString, "auto", Effect::kNone,
     "For other kinds of models or devices."},
    {"--mamba-block-size", Kind::kInt, "", Effect::kNone, "For other kinds of models or devices."},
    {"--prefix-match-unit", Kind::kInt, "", Effect::kNone, "For other kinds of models or devices."},
    {"--mamba-cache-mode", Kind::kString, "none", Effect::kNone,
     "For other kinds of models or devices."},
    {"--enable-mamba-shared-prefix-checkpoint", Kind::kSwitch, "False", Effect::kNone,
     "For other kinds of models or devices."},
    {"--replayssm-buffer-len", Kind::kInt, "16", Effect::kNone,
     "For other kinds of models or devices."},
    {"--use-replayssm", Kind::kSwitch, "False", Effect::kNone,
     "For other kinds of models or devices."},
    {"--kv-offloading-size", Kind::kFloat, "", Effect::kNone,
     "The KV cache already lies in main memory."},
    {"--kv-offloading-backend", Kind::kString, "native", Effect::kNone,
     "The KV cache already lies in main memory.",
     "native|lmcache"},
};

constexpr OptionSpec kOffloadConfig[] = {
    {"--offload-backend", Kind::kString, "auto", Effect::kNone,
     "Weights already lie in main memory."},
    {"--cpu-offload-gb", Kind::kFloat, "0", Effect::kNone, "Weights already lie in main memory."},
    {"--cpu-offload-params", Kind::kStrings, "", Effect::kNone,
     "Weights already lie in main memory."},
    {"--offload-group-size", Kind::kInt, "0", Effect::kNone, "Weights already lie in main memory."},
    {"--offload-num-in-group", Kind::kInt, "1", Effect::kNone,
     "Weights already lie in main memory."},
    {"--offload-prefetch-step", Kind::kInt, "1", Effect::kNone,
     "Weights already lie in main memory."},
    {"--offload-params", Kind::kStrings, "", Effect::kNone, "Weights already lie in main memory."},
};

}  // namespace

std::span<const OptionGroup> CacheOptionGroups() {
  static constexpr OptionGroup kGroups[] = {
      {"CacheConfig", "The KV cache.", kCacheConfig},
      {"OffloadConfig", "Weight offloading.", kOffloadConfig},
  };
  return kGroups;
}

}  // namespace tiercel::options
