// The model and how it is loaded.
// Names and defaults are vLLM's; see option_table.h for what the columns mean.
#include "options/option_table.h"

namespace tiercel::options {
namespace {

constexpr OptionSpec kModelConfig[] = {
    {"--model", Kind::kString, "Qwen/Qwen3-0.6B", Effect::kUsed,
     "The model, as a flag; the positional argument is the preferred form."},
    {"--runner", Kind::kString, "auto", Effect::kUsed,
     "What the model is run for: generate gives tokens, pooling vectors or labels. auto: as its "
     "architecture or its Sentence Transformers files say.",
     "auto|generate|pooling|draft"},
    {"--convert", Kind::kString, "auto", Effect::kUsed,
     "What a model is turned into that pools: embed gives vectors, classify labels. auto: labels if its "
     "architecture has them.",
     "auto|none|embed|classify|reward|mm_encoder_only"},
    {"--tokenizer", Kind::kString, "", Effect::kUsed,
     "Folder or hub id of the tokenizer, if it is not the model's own."},
    {"--tokenizer-mode", Kind::kString, "auto", Effect::kNone,
     "The one tokenizer here is the fast one.",
     "auto|hf|slow|mistral|deepseek_v32|custom"},
    {"--trust-remote-code", Kind::kSwitch, "False", Effect::kNone,
     "No code of a model's repository is ever run."},
    {"--dtype", Kind::kString, "auto", Effect::kUsed,
     "Arithmetic of the weights and activations: BF16 here; float16 and float32 checkpoints "
     "are converted.",
     "auto|half|float16|bfloat16|float|float32"},
    {"--seed", Kind::kInt, "0", Effect::kUsed, "Seed of the sampler for requests that bring none."},
    {"--hf-config-path", Kind::kString, "", Effect::kRefused,
     "Folder or hub id of config.json, if it is not the model's own."},
    {"--allowed-local-media-path", Kind::kString, "", Effect::kNone,
     "This server never opens a file that a request names."},
    {"--allowed-media-domains", Kind::kStrings, "", Effect::kNone,
     "This server never opens a URL that a request names."},
    {"--revision", Kind::kString, "", Effect::kUsed,
     "Branch, tag or commit of the model on the hub."},
    {"--code-revision", Kind::kString, "", Effect::kNone,
     "No code of a model's repository is ever run."},
    {"--tokenizer-revision", Kind::kString, "", Effect::kUsed,
     "Branch, tag or commit of the tokenizer on the hub."},
    {"--max-model-len", Kind::kHumanInt, "", Effect::kUsed,
     "Longest prompt plus output in tokens (1k, 1K, 2.5k …); auto or -1: what the memory "
     "allows. Default: the model's own."},
    {"--quantization -q", Kind::kString, "", Effect::kUsed,
     "ascend and compressed-tensors read quantized checkpoints, and are found without the flag; int8 and "
     "int4 quantize a float model as it is loaded (W8A8 with a scale per token; 4 bits with a scale for "
     "each 128 weights). The weights of GGUF, GPTQ, AWQ, W4A8 and FP8 files stay as they are: none makes BF16 of them.",
     "ascend|compressed-tensors|int8|int4|none|awq|gptq|fp8|gguf|bitsandbytes|modelopt|awq_marlin|"
     "gptq_marlin|marlin|experts_int8|quark|torchao|auto-round|mxfp4|inc"},
    {"--quantization-config", Kind::kJson, "", Effect::kRefused,
     "How weights are quantized is read from the checkpoint, or said by --quantization."},
    {"--allow-deprecated-quantization", Kind::kSwitch, "False", Effect::kNone,
     "For other kinds of models or devices."},
    {"--enforce-eager", Kind::kSwitch, "False", Effect::kUsed,
     "Record the program of every step anew (cudagraph_mode NONE)."},
    {"--enable-return-routed-experts", Kind::kSwitch, "False", Effect::kNone,
     "For other kinds of models or devices."},
    {"--return-sampling-mask", Kind::kSwitch, "False", Effect::kRefused,
     "Responses do not carry the sampling mask."},
    {"--max-logprobs", Kind::kInt, "20", Effect::kUsed,
     "Most logprobs that a request may ask for; -1: the whole vocabulary."},
    {"--logprobs-mode", Kind::kString, "raw_logprobs", Effect::kUsed,
     "What logprobs show: before or after the logits processors, normalized or not.",
     "raw_logprobs|raw_logits|processed_logprobs|processed_logits"},
    {"--use-fp64-gumbel", Kind::kSwitch, "False", Effect::kNone,
     "For other kinds of models or devices."},
    {"--enable-trace-replay", Kind::kSwitch, "False", Effect::kRefused,
     "Traces are neither recorded nor replayed."},
    {"--disable-sliding-window", Kind::kSwitch, "False", Effect::kNone,
     "The models served have full attention."},
    {"--disable-cascade-attn", Kind::kString, "", Effect::kNone,
     "For other kinds of models or devices."},
    {"--skip-tokenizer-init", Kind::kSwitch, "False", Effect::kRefused,
     "The server needs the tokenizer."},
    {"--enable-prompt-embeds", Kind::kSwitch, "False", Effect::kRefused,
     "Prompts are text or token ids."},
    {"--served-model-name", Kind::kStrings, "", Effect::kUsed,
     "Names under which requests may address the model; responses show the first. Default: the "
     "model as given."},
    {"--config-format", Kind::kString, "auto", Effect::kNone,
     "Recognized from the files.",
     "auto|hf|mistral"},
    {"--hf-token", Kind::kString, "", Effect::kUsed, "Token for the hub (also HF_TOKEN)."},
    {"--hf-overrides", Kind::kJson, "{}", Effect::kUsed,
     "JSON object merged over the model's config.json."},
    {"--model-class-overrides", Kind::kJson, "{}", Effect::kRefused,
     "Python model classes cannot be loaded."},
    {"--pooler-config", Kind::kJson, "", Effect::kUsed,
     "How a model pools where a request does not say: use_activation (normalize, activation, softmax) and "
     "dimensions. It is the last token that is pooled."},
    {"--generation-config", Kind::kString, "auto", Effect::kUsed,
     "Where sampling defaults come from: auto (the model's generation_config.json), vllm "
     "(none), or a folder."},
    {"--override-generation-config", Kind::kJson, "{}", Effect::kUsed,
     "JSON object merged over the sampling defaults."},
    {"--enable-sleep-mode", Kind::kSwitch, "False", Effect::kUsed,
     "Offer /sleep and /wake_up (with VLLM_SERVER_DEV_MODE=1): asleep, the KV cache takes no memory."},
    {"--sleep-mode-offload-cudagraph", Kind::kSwitch, "False", Effect::kNone,
     "Captured steps take next to no memory."},
    {"--sleep-preserve-parameter-names", Kind::kStrings, "", Effect::kNone,
     "Weights stay in memory while the engine sleeps."},
    {"--enable-cumem-allocator", Kind::kSwitch, "False", Effect::kNone,
     "For other kinds of models or devices."},
    {"--enable-nccl-comm-suspend", Kind::kSwitch, "False", Effect::kNone,
     "For other kinds of models or devices."},
    {"--model-impl", Kind::kString, "auto", Effect::kNone,
     "There is one implementation of each architecture.",
     "auto|vllm|transformers|terratorch"},
    {"--logits-processors", Kind::kStrings, "", Effect::kRefused,
     "Custom Python logits processors cannot be loaded."},
    {"--io-processor-plugin", Kind::kString, "", Effect::kRefused,
     "Python plugins cannot be loaded."},
    {"--renderer-num-workers", Kind::kInt, "1", Effect::kNone,
     "For other kinds of models or devices."},
};

constexpr OptionSpec kLoadConfig[] = {
    {"--load-format", Kind::kString, "auto", Effect::kUsed,
     "Recognized from the files; a format that is named is checked. packed: auto, and packed weights are kept in "
     "TIERCEL_PACKED_FOLDER (the user's cache folder), from where the next starts map them.",
     "auto|hf|dummy|packed|safetensors|sharded_state|pt|npcache|gguf|bitsandbytes|tensorizer|"
     "runai_streamer|runai_streamer_sharded|fastsafetensors|mistral|netloader"},
    {"--download-dir", Kind::kString, "", Effect::kUsed,
     "Cache folder for downloads instead of the hub's own."},
    {"--safetensors-load-strategy", Kind::kString, "", Effect::kNone,
     "Files are mapped and packed in parallel.",
     "lazy|eager|prefetch|torchao"},
    {"--safetensors-prefetch-num-threads", Kind::kInt, "", Effect::kNone,
     "Files are mapped and packed in parallel; nothing to set."},
    {"--safetensors-prefetch-block-size", Kind::kInt, "", Effect::kNone,
     "Files are mapped and packed in parallel; nothing to set."},
    {"--model-loader-extra-config", Kind::kJson, "{}", Effect::kNone,
     "There is one loader, without settings."},
    {"--ignore-patterns", Kind::kStrings, "original/**/*", Effect::kNone,
     "Only the files that are needed are downloaded."},
    {"--use-tqdm-on-load", Kind::kSwitch, "True", Effect::kUsed,
     "Show a progress bar while loading (on a terminal)."},
    {"--pt-load-map-location", Kind::kString, "cpu", Effect::kNone,
     "Files are mapped and packed in parallel; nothing to set."},
};

}  // namespace

std::span<const OptionGroup> ModelOptionGroups() {
  static constexpr OptionGroup kGroups[] = {
      {"ModelConfig", "The model and its files.", kModelConfig},
      {"LoadConfig", "How weights are found and read.", kLoadConfig},
  };
  return kGroups;
}

}  // namespace tiercel::options
