// Scheduler, kernels, adapters and the settings given as JSON.
// Names and defaults are vLLM's; see option_table.h for what the columns mean.
#include "options/option_table.h"

namespace tiercel::options {
namespace {

constexpr OptionSpec kSchedulerConfig[] = {
    {"--max-num-batched-tokens", Kind::kHumanInt, "", Effect::kUsed,
     "Token budget of one step. Default: 2048."},
    {"--max-num-scheduled-tokens", Kind::kInt, "", Effect::kNone,
     "The token budget is --max-num-batched-tokens."},
    {"--max-num-seqs", Kind::kHumanInt, "", Effect::kUsed,
     "Most sequences in one step. Default: 128."},
    {"--max-num-active-seqs", Kind::kInt, "", Effect::kNone, "The limit is --max-num-seqs."},
    {"--max-num-queued-reqs", Kind::kInt, "", Effect::kUsed,
     "Most requests that wait; more get HTTP 503."},
    {"--max-num-queued-tokens", Kind::kInt, "", Effect::kUsed,
     "Most prompt tokens that wait; more get HTTP 503."},
    {"--long-prefill-token-threshold", Kind::kInt, "0", Effect::kUsed,
     "Most tokens of one prompt in one step; 0: the whole budget."},
    {"--long-prefill-token-threshold-adaptive", Kind::kSwitch, "False", Effect::kNone,
     "The scheduler needs no such hint."},
    {"--target-itl-ms", Kind::kFloat, "0", Effect::kUsed,
     "Tiercel's own: milliseconds that a running stream may wait for its next token while prompts are "
     "computed. Parts of prompts are cut to fit; 0: prompts have three quarters of the time, or more "
     "where many of them wait."},
    {"--scheduling-policy", Kind::kString, "fcfs", Effect::kUsed,
     "Order of waiting requests: as they come, or by the priority field (lower first).",
     "fcfs|priority"},
    {"--enable-chunked-prefill", Kind::kSwitch, "True", Effect::kUsed,
     "Let a prompt be computed over several steps."},
    {"--disable-chunked-mm-input", Kind::kSwitch, "False", Effect::kNone,
     "The scheduler needs no such hint."},
    {"--scheduler-cls", Kind::kString, "", Effect::kRefused, "Python plugins cannot be loaded."},
    {"--scheduler-reserve-full-isl", Kind::kSwitch, "True", Effect::kNone,
     "The scheduler needs no such hint."},
    {"--watermark", Kind::kFloat, "0.0", Effect::kNone, "The scheduler needs no such hint."},
    {"--prefill-schedule-interval", Kind::kInt, "1", Effect::kNone,
     "The scheduler needs no such hint."},
    {"--disable-hybrid-kv-cache-manager", Kind::kSwitch, "", Effect::kNone,
     "The scheduler needs no such hint."},
    {"--async-scheduling", Kind::kSwitch, "True", Effect::kUsed,
     "Plan a step while the one before it runs. Same tokens either way."},
    {"--stream-interval", Kind::kInt, "1", Effect::kUsed,
     "Tokens a chunk of a stream; the first token is never held back."},
};

constexpr OptionSpec kCompilationConfig[] = {
    {"--cudagraph-capture-sizes", Kind::kInts, "", Effect::kUsed,
     "Batch sizes whose programs are recorded at start; others below the largest when they first come."},
    {"--max-cudagraph-capture-size", Kind::kInt, "", Effect::kUsed,
     "Largest batch size whose program is kept."},
};

constexpr OptionSpec kKernelConfig[] = {
    {"--ir-op-priority", Kind::kJson, "{}", Effect::kNone,
     "Kernels are chosen by TIERCEL_CPU_ISA or by the CPU."},
    {"--enable-flashinfer-autotune", Kind::kSwitch, "", Effect::kNone,
     "Kernels are chosen by TIERCEL_CPU_ISA or by the CPU."},
    {"--moe-backend", Kind::kString, "", Effect::kNone,
     "Kernels are chosen by TIERCEL_CPU_ISA or by the CPU."},
    {"--linear-backend", Kind::kString, "", Effect::kNone,
     "Kernels are chosen by TIERCEL_CPU_ISA or by the CPU."},
    {"--sparse-indexer-topk-backend", Kind::kString, "", Effect::kNone,
     "Kernels are chosen by TIERCEL_CPU_ISA or by the CPU."},
};

constexpr OptionSpec kAttentionConfig[] = {
    {"--attention-backend", Kind::kString, "", Effect::kNone,
     "There is one attention, chosen for the CPU."},
};

constexpr OptionSpec kStructuredOutputsConfig[] = {
    {"--reasoning-parser", Kind::kString, "", Effect::kUsed,
     "How the model tells thought from answer: qwen3 or deepseek_r1. The thought is shown apart, as "
     "reasoning (and reasoning_content)."},
    {"--reasoning-parser-plugin", Kind::kString, "", Effect::kRefused,
     "Python plugins cannot be loaded."},
};

constexpr OptionSpec kLoRAConfig[] = {
    {"--enable-lora", Kind::kSwitch, "False", Effect::kRefused,
     "LoRA adapters are not offered yet."},
    {"--max-loras", Kind::kInt, "1", Effect::kRefused, "LoRA adapters are not offered yet."},
    {"--max-lora-rank", Kind::kInt, "16", Effect::kRefused,
     "LoRA adapters are not offered yet.",
     "1|8|16|32|64|128|256|320|512"},
    {"--lora-dtype", Kind::kString, "auto", Effect::kRefused, "LoRA adapters are not offered yet."},
    {"--enable-tower-connector-lora", Kind::kSwitch, "False", Effect::kRefused,
     "LoRA adapters are not offered yet."},
    {"--max-cpu-loras", Kind::kInt, "", Effect::kRefused, "LoRA adapters are not offered yet."},
    {"--fully-sharded-loras", Kind::kSwitch, "False", Effect::kRefused,
     "LoRA adapters are not offered yet."},
    {"--lora-target-modules", Kind::kStrings, "", Effect::kRefused,
     "LoRA adapters are not offered yet."},
    {"--default-mm-loras", Kind::kJson, "", Effect::kRefused, "LoRA adapters are not offered yet."},
    {"--specialize-active-lora", Kind::kSwitch, "False", Effect::kRefused,
     "LoRA adapters are not offered yet."},
    {"--enable-mixed-moe-lora-format", Kind::kSwitch, "False", Effect::kRefused,
     "LoRA adapters are not offered yet."},
    {"--enable-moe-shared-loras", Kind::kSwitch, "False", Effect::kRefused,
     "LoRA adapters are not offered yet."},
    {"--max-lora-cls-labels", Kind::kInt, "", Effect::kRefused,
     "LoRA adapters are not offered yet."},
};

constexpr OptionSpec kVllmConfig[] = {
    {"--speculative-config -sc", Kind::kJson, "", Effect::kUsed,
     "JSON object: method (ngram: the next tokens are guessed from what followed the last ones before, and verified in one "
     "step; others make no guesses), num_speculative_tokens, prompt_lookup_max, prompt_lookup_min. The same tokens, sooner."},
    {"--spec-method", Kind::kString, "", Effect::kUsed, "See --speculative-config."},
    {"--spec-model", Kind::kString, "", Effect::kUsed, "See --speculative-config."},
    {"--spec-tokens", Kind::kInt, "", Effect::kUsed, "See --speculative-config: num_speculative_tokens."},
    {"--watermark-config", Kind::kJson, "", Effect::kRefused, "Texts are not watermarked."},
    {"--diffusion-config -dc", Kind::kJson, "", Effect::kNone,
     "For other kinds of models or devices."},
    {"--kv-transfer-config", Kind::kJson, "", Effect::kRefused,
     "Prefill and decode run in one process."},
    {"--kv-events-config", Kind::kJson, "", Effect::kRefused,
     "Events of the KV cache are not published."},
    {"--ec-transfer-config", Kind::kJson, "", Effect::kNone,
     "For other kinds of models or devices."},
    {"--ec-manager-config", Kind::kJson, "{}", Effect::kNone,
     "For other kinds of models or devices."},
    {"--compilation-config -cc", Kind::kJson, "{}", Effect::kUsed,
     "JSON object, or dotted keys (-cc.cudagraph_mode FULL). Checked; graph modes choose how "
     "programs are recorded, not what they compute."},
    {"--attention-config -ac", Kind::kJson, "{}", Effect::kNone,
     "For other kinds of models or devices."},
    {"--engram-config", Kind::kJson, "", Effect::kNone, "For other kinds of models or devices."},
    {"--reasoning-config", Kind::kJson, "", Effect::kRefused,
     "Where thoughts begin and end is what --reasoning-parser says; a request bounds them by thinking_token_budget."},
    {"--kernel-config", Kind::kJson, "{}", Effect::kNone, "For other kinds of models or devices."},
    {"--additional-config", Kind::kJson, "{}", Effect::kUsed,
     "JSON object with the Ascend plugin's settings. ascend_compilation_config.fuse_norm_quant, quantize_lm_head, w8a8_mix, "
     "weight_prefetch_config, pa_shape_list, enable_flashcomm1 and sp_threshold work; others are checked, and the log "
     "names those that have no effect."},
    {"--structured-outputs-config", Kind::kJson, "{}", Effect::kUsed,
     "JSON object: disable_any_whitespace, disable_additional_properties, enable_in_reasoning, "
     "reasoning_parser. The backend is always llguidance."},
    {"--aux-output-config", Kind::kJson, "{}", Effect::kRefused, "Responses have no such parts."},
    {"--profiler-config", Kind::kJson, "{}", Effect::kRefused,
     "There is no torch profiler here; use perf."},
    {"--optimization-level", Kind::kInt, "2", Effect::kNone,
     "There is nothing to compile at start.",
     "0|1|2|3"},
    {"--performance-mode", Kind::kString, "balanced", Effect::kUsed,
     "throughput doubles the default budgets of a step.",
     "balanced|interactivity|throughput"},
    {"--weight-transfer-config", Kind::kJson, "", Effect::kRefused,
     "Weights are read at start alone."},
};

constexpr OptionSpec kEngine[] = {
    {"--disable-log-stats", Kind::kFlag, "", Effect::kUsed,
     "No statistics in the log and no vllm: metrics."},
    {"--aggregate-engine-logging", Kind::kFlag, "", Effect::kNone,
     "Each engine logs a line of its own; /metrics has their numbers by the label engine."},
    {"--fail-on-environ-validation", Kind::kSwitch, "False", Effect::kUsed,
     "Refuse to start when a VLLM_ variable is unknown."},
    {"--shutdown-timeout", Kind::kFloat, "0", Effect::kUsed,
     "Seconds that running requests get after SIGTERM or SIGINT before they are aborted."},
    {"--gdn-prefill-backend", Kind::kString, "", Effect::kNone, "For other kinds of models."},
    {"--kda-prefill-backend", Kind::kString, "", Effect::kNone, "For other kinds of models."},
    {"--kda-decode-backend", Kind::kString, "", Effect::kNone, "For other kinds of models."},
    {"--enable-log-requests", Kind::kSwitch, "False", Effect::kUsed, "Log every request."},
};

// Flags that vLLM has had and no longer knows; scripts still carry them.
constexpr OptionSpec kRemoved[] = {
    {"--swap-space", Kind::kFloat, "4", Effect::kNone, "Preempted sequences are computed again."},
    {"--guided-decoding-backend", Kind::kString, "auto", Effect::kNone,
     "There is one backend, llguidance."},
    {"--task", Kind::kString, "auto", Effect::kUsed,
     "The older flag for --runner and --convert.",
     "auto|generate|embedding|embed|classify|score|reward|transcription|draft"},
    {"--max-num-partial-prefills", Kind::kInt, "1", Effect::kNone,
     "Prompts share the token budget in order."},
    {"--max-long-partial-prefills", Kind::kInt, "1", Effect::kNone,
     "Prompts share the token budget in order."},
    {"--disable-log-requests", Kind::kFlag, "", Effect::kNone,
     "Requests are not logged unless --enable-log-requests is given."},
    {"--rope-scaling", Kind::kJson, "", Effect::kUsed,
     "Use --hf-overrides; merged over config.json."},
    {"--rope-theta", Kind::kFloat, "", Effect::kUsed,
     "Use --hf-overrides; merged over config.json."},
    {"--max-seq-len-to-capture", Kind::kInt, "8192", Effect::kNone,
     "Use --max-cudagraph-capture-size."},
    {"--use-v2-block-manager", Kind::kSwitch, "True", Effect::kNone, "There is one block manager."},
    {"--num-scheduler-steps", Kind::kInt, "1", Effect::kNone, "See --async-scheduling."},
    {"--multi-step-stream-outputs", Kind::kSwitch, "True", Effect::kNone, "See --stream-interval."},
    {"--preemption-mode", Kind::kString, "", Effect::kNone,
     "Preempted sequences are computed again."},
    {"--num-lookahead-slots", Kind::kInt, "0", Effect::kNone,
     "Tokens are computed one at a time; they are the same either way."},
};

}  // namespace

std::span<const OptionGroup> EngineOptionGroups() {
  static constexpr OptionGroup kGroups[] = {
      {"SchedulerConfig", "Batching.", kSchedulerConfig},
      {"CompilationConfig", "Recorded programs.", kCompilationConfig},
      {"KernelConfig", "Kernels.", kKernelConfig},
      {"AttentionConfig", "Attention.", kAttentionConfig},
      {"StructuredOutputsConfig", "Structured output and reasoning.", kStructuredOutputsConfig},
      {"LoRAConfig", "Adapters.", kLoRAConfig},
      {"VllmConfig", "Settings given as JSON.", kVllmConfig},
      {"Engine", "The engine as a whole.", kEngine},
      {"Removed", "Flags of older versions.", kRemoved},
  };
  return kGroups;
}

}  // namespace tiercel::options
