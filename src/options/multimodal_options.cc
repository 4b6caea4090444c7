// Kinds of models that are not served: media input, state-space layers.
// Names and defaults are vLLM's; see option_table.h for what the columns mean.
#include "options/option_table.h"

namespace tiercel::options {
namespace {

constexpr OptionSpec kMultiModalConfig[] = {
    {"--language-model-only", Kind::kSwitch, "False", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--limit-mm-per-prompt", Kind::kJson, "{}", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--enable-mm-embeds", Kind::kSwitch, "False", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--media-io-kwargs", Kind::kJson, "{}", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-processor-kwargs", Kind::kJson, "{}", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-processor-cache-gb", Kind::kInt, "4", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-processor-cache-type", Kind::kString, "lru", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-hasher-algorithm", Kind::kString, "blake3", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-shm-cache-max-object-size-mb", Kind::kInt, "128", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-encoder-only", Kind::kSwitch, "False", Effect::kRefused,
     "For images, audio and video; this server is for text."},
    {"--mm-encoder-tp-mode", Kind::kString, "weights", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-encoder-attn-backend", Kind::kString, "", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-encoder-attn-dtype", Kind::kString, "", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-encoder-fp8-scale-path", Kind::kString, "", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-encoder-fp8-scale-save-path", Kind::kString, "", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-encoder-fp8-scale-save-margin", Kind::kFloat, "1.5", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--interleave-mm-strings", Kind::kSwitch, "False", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--skip-mm-profiling", Kind::kSwitch, "False", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--video-pruning-rate", Kind::kFloat, "", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--video-pruning-method", Kind::kString, "evs", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-tensor-ipc", Kind::kString, "direct_rpc", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-processor-device", Kind::kString, "auto", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-ipc-gpu-memory-gb", Kind::kInt, "0", Effect::kNone,
     "For images, audio and video; this server is for text."},
    {"--mm-device-do-normalize", Kind::kSwitch, "True", Effect::kNone,
     "For images, audio and video; this server is for text."},
};

constexpr OptionSpec kMambaConfig[] = {
    {"--mamba-backend", Kind::kString, "triton", Effect::kNone, "For Mamba layers."},
    {"--mamba-ssu-algorithm", Kind::kString, "", Effect::kNone, "For Mamba layers."},
    {"--enable-mamba-cache-stochastic-rounding", Kind::kSwitch, "False", Effect::kNone,
     "For Mamba layers."},
    {"--mamba-cache-philox-rounds", Kind::kInt, "0", Effect::kNone, "For Mamba layers."},
};

}  // namespace

std::span<const OptionGroup> MultimodalOptionGroups() {
  static constexpr OptionGroup kGroups[] = {
      {"MultiModalConfig", "Images, audio and video.", kMultiModalConfig},
      {"MambaConfig", "State-space layers.", kMambaConfig},
  };
  return kGroups;
}

}  // namespace tiercel::options
