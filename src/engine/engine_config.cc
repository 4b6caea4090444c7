#include "engine/engine_config.h"

#include <algorithm>

#include "base/log.h"
#include "base/round_up.h"

namespace tiercel::engine {

int64_t UsableMemory(const EngineOptions& options, const MemoryBudget& memory) {
  const int64_t share =
      static_cast<int64_t>(options.gpu_memory_utilization * static_cast<double>(memory.total));
  return std::min(share, memory.available);
}

namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;

// A step's lists have room for as many tokens from the start, at some 100 bytes each: four times what the longest
// context in use has.
constexpr int64_t kMaxBatchedTokens = int64_t{1} << 22;
// Of a step's table of blocks, which has a place of four bytes for each block of each sequence.
constexpr int64_t kMaxTableBlocks = int64_t{1} << 28;

Status ResolveModelLen(EngineOptions* o, int64_t derived) {
  if (o->max_model_len == 0) o->max_model_len = derived;
  if (o->max_model_len < 2) {
    return InvalidArgument("max_model_len must be at least 2, got {}.", o->max_model_len)
        .WithParam("max_model_len");
  }
  if (o->max_model_len > derived && !o->allow_long_max_model_len) {
    return InvalidArgument(
               "User-specified max_model_len ({}) is greater than the derived max_model_len "
               "(max_position_embeddings={} or model_max_length=None in model's config.json). To "
               "allow overriding this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1. "
               "VLLM_ALLOW_LONG_MAX_MODEL_LEN must be used with extreme caution. If the model uses "
               "relative position encoding (RoPE), positions exceeding derived_max_model_len lead "
               "to nan. If the model uses absolute position encoding, positions exceeding "
               "derived_max_model_len will cause a CUDA array out-of-bounds error.",
               o->max_model_len, derived)
        .WithParam("max_model_len");
  }
  return OkStatus();
}

// What a step's lists need room for, with all that follows from other flags.
Status CheckStepSize(const EngineOptions& o) {
  if (o.max_num_batched_tokens > kMaxBatchedTokens) {
    return InvalidArgument("max_num_batched_tokens must be between 1 and 2^22, got {}.", o.max_num_batched_tokens)
        .WithParam("max_num_batched_tokens");
  }
  const int64_t blocks = CeilDiv(o.max_model_len, o.block_size);
  if (o.max_num_seqs > kMaxTableBlocks / blocks) {
    return InvalidArgument("max_num_seqs ({}) sequences of max_model_len ({}) have {} blocks each (block_size {}); all "
                           "together may have 2^28.",
                           o.max_num_seqs, o.max_model_len, blocks, o.block_size)
        .WithParam("max_num_seqs");
  }
  return OkStatus();
}

Status ResolveScheduling(EngineOptions* o) {
  const bool given_tokens = o->max_num_batched_tokens > 0;
  const bool given_seqs = o->max_num_seqs > 0;
  if (!given_seqs) o->max_num_seqs = 128;
  if (!given_tokens) {
    // Both factors are user input: no overflow below 2^62.
    const int64_t useful = o->max_model_len > 2048 / o->max_num_seqs
                               ? std::max<int64_t>(2048, o->max_num_seqs)
                               : o->max_num_seqs * o->max_model_len;
    o->max_num_batched_tokens = std::min(std::max<int64_t>(2048, o->max_num_seqs), useful);
    if (!o->enable_chunked_prefill) {
      o->max_num_batched_tokens = std::max(o->max_model_len, o->max_num_batched_tokens);
    }
  }
  if (!given_seqs) o->max_num_seqs = std::min(o->max_num_seqs, o->max_num_batched_tokens);
  if (!o->enable_chunked_prefill && o->max_num_batched_tokens < o->max_model_len) {
    return InvalidArgument(
               "max_num_batched_tokens ({}) is smaller than max_model_len ({}). This effectively "
               "limits the maximum sequence length to max_num_batched_tokens and makes vLLM reject "
               "longer sequences. Please increase max_num_batched_tokens or decrease "
               "max_model_len.",
               o->max_num_batched_tokens, o->max_model_len)
        .WithParam("max_num_batched_tokens");
  }
  if (o->max_num_batched_tokens < o->max_num_seqs) {
    return InvalidArgument(
               "max_num_batched_tokens ({}) must be greater than or equal to max_num_seqs ({}).",
               o->max_num_batched_tokens, o->max_num_seqs)
        .WithParam("max_num_batched_tokens");
  }
  if (o->long_prefill_token_threshold > o->max_model_len) {
    return InvalidArgument(
               "long_prefill_token_threshold ({}) cannot be greater than the max_model_len ({}).",
               o->long_prefill_token_threshold, o->max_model_len)
        .WithParam("long_prefill_token_threshold");
  }
  return CheckStepSize(*o);
}

// Guesses are made of known tokens, so a step is planned when the one before it has ended.
Status ResolveDrafts(EngineOptions* o, const model::CausalLm& model) {
  if (!o->drafts) return OkStatus();
  if (model.max_under_way() > 1) {
    return InvalidArgument("speculative_config: found pipeline parallelism, expected none: of a model in stages several "
                           "steps are under way, and no step's tokens are known when the next one is planned")
        .WithParam("speculative_config");
  }
  o->async_scheduling = false;
  return OkStatus();
}

Status CheckRanges(const EngineOptions& o) {
  const auto check = [](bool good, const char* name, int64_t value, const char* expected) {
    return good ? OkStatus()
                : InvalidArgument("{} must be {}, got {}.", name, expected, value).WithParam(name);
  };
  // The upper bounds only keep products of two of them far from overflow.
  constexpr int64_t kMax = int64_t{1} << 30;
  RETURN_IF_ERROR(check(o.max_model_len >= 0 && o.max_model_len <= kMax, "max_model_len",
                        o.max_model_len, "between 1 and 2^30"));
  RETURN_IF_ERROR(check(o.max_num_batched_tokens >= 0 && o.max_num_batched_tokens <= kMaxBatchedTokens,
                        "max_num_batched_tokens", o.max_num_batched_tokens, "between 1 and 2^22"));
  RETURN_IF_ERROR(check(o.max_num_seqs >= 0 && o.max_num_seqs <= 65536, "max_num_seqs",
                        o.max_num_seqs, "between 1 and 65536"));
  RETURN_IF_ERROR(check(o.block_size >= 1 && o.block_size <= 65536, "block_size", o.block_size,
                        "between 1 and 65536"));
  RETURN_IF_ERROR(check(o.long_prefill_token_threshold >= 0, "long_prefill_token_threshold",
                        o.long_prefill_token_threshold, "at least 0"));
  if (o.num_gpu_blocks_override) {
    RETURN_IF_ERROR(check(*o.num_gpu_blocks_override >= 2 && *o.num_gpu_blocks_override <= kMax,
                          "num_gpu_blocks_override", *o.num_gpu_blocks_override,
                          "between 2 and 2^30"));
  }
  if (o.kv_cache_memory_bytes) {
    RETURN_IF_ERROR(check(*o.kv_cache_memory_bytes > 0, "kv_cache_memory_bytes",
                          *o.kv_cache_memory_bytes, "greater than 0"));
  }
  if (!(o.gpu_memory_utilization > 0 && o.gpu_memory_utilization <= 1)) {
    return InvalidArgument("gpu_memory_utilization must be in (0, 1], got {}.",
                           o.gpu_memory_utilization)
        .WithParam("gpu_memory_utilization");
  }
  return OkStatus();
}

int64_t BlocksPerSequence(const EngineOptions& o) {
  return CeilDiv(o.max_model_len, o.block_size);
}

// Bytes that the KV cache may take; nullopt: not known, so no bound.
std::optional<int64_t> KvBytes(const EngineOptions& o, const model::CausalLm& model,
                               const model::RunLimits& limits, const MemoryBudget& memory) {
  if (o.kv_cache_memory_bytes) return o.kv_cache_memory_bytes;
  if (memory.total <= 0) return std::nullopt;
  return (UsableMemory(o, memory) - memory.weight_copies * model.WeightBytesInMemory()) / memory.engines -
         model.ActivationBytes(limits);
}

// Blocks, with block 0, that the memory holds: however many are asked for by the override, and
// without a bound what max_num_seqs sequences can use.
Expected<int64_t> PoolBlocks(const EngineOptions& o, const model::CausalLm& model,
                             const model::RunLimits& limits, const MemoryBudget& memory) {
  if (o.num_gpu_blocks_override) return *o.num_gpu_blocks_override;
  const std::optional<int64_t> bytes = KvBytes(o, model, limits, memory);
  if (!bytes) return 1 + o.max_num_seqs * BlocksPerSequence(o);
  const int64_t block_bytes = std::max<int64_t>(1, model.KvBlockBytes(o.block_size));
  if (*bytes < 2 * block_bytes) {
    return Unexpected(ResourceExhausted(
        "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
        "initializing the engine. Found {:.2f} GiB for the KV cache; the weights take {:.2f} GiB, "
        "the activations {:.2f} GiB.",
        static_cast<double>(std::max<int64_t>(0, *bytes)) / kGiB,
        static_cast<double>(model.WeightBytesInMemory()) / kGiB,
        static_cast<double>(model.ActivationBytes(limits)) / kGiB));
  }
  return *bytes / block_bytes;
}

// The pool's blocks: what fits, but no more than is useful and at least one longest sequence.
Expected<int64_t> NumBlocks(const EngineOptions& o, const model::CausalLm& model,
                            const model::RunLimits& limits, const MemoryBudget& memory) {
  ASSIGN_OR_RETURN(const int64_t blocks, PoolBlocks(o, model, limits, memory));
  if (o.num_gpu_blocks_override) return blocks;
  const int64_t per_sequence = BlocksPerSequence(o);
  if (blocks - 1 < per_sequence) {
    const int64_t block_bytes = std::max<int64_t>(1, model.KvBlockBytes(o.block_size));
    return Unexpected(ResourceExhausted(
        "To serve at least one request with the model's max seq len ({}), ({:.2f} GiB KV cache is "
        "needed, which is larger than the available KV cache memory ({:.2f} GiB). Based on the "
        "available memory, the estimated maximum model length is {}. Try increasing "
        "`gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.",
        o.max_model_len, static_cast<double>((per_sequence + 1) * block_bytes) / kGiB,
        static_cast<double>(*KvBytes(o, model, limits, memory)) / kGiB,
        (blocks - 1) * o.block_size));
  }
  return std::min(blocks, 1 + o.max_num_seqs * per_sequence);
}

// A cache asked for by size is not held against what is free, but no machine holds more than it has:
// untouched pages cost nothing, so the process would start, and be killed when they are used.
Status CheckCacheExists(const EngineOptions& o, int64_t blocks, const model::CausalLm& model,
                        const model::RunLimits& limits, const MemoryBudget& memory) {
  if (!o.kv_cache_memory_bytes && !o.num_gpu_blocks_override) return OkStatus();
  const int64_t cache = blocks * model.KvBlockBytes(o.block_size);
  const int64_t rest = memory.weight_copies * model.WeightBytesInMemory() +
                       memory.engines * model.ActivationBytes(limits);
  if (memory.total <= 0 || cache <= (memory.total - rest) / memory.engines) return OkStatus();
  const std::string flag =
      o.num_gpu_blocks_override ? "num_gpu_blocks_override" : "kv_cache_memory_bytes";
  return ResourceExhausted(
             "{} asks for a KV cache of {:.2f} GiB{}. This machine or its control group has {:.2f} GiB, "
             "of which weights and activations take {:.2f} GiB.",
             flag, static_cast<double>(cache) / kGiB,
             memory.engines > 1 ? fmt::format(" for each of {} engines", memory.engines) : "",
             static_cast<double>(memory.total) / kGiB,
             static_cast<double>(rest) / kGiB)
      .WithParam(flag);
}

model::RunLimits LimitsOf(const EngineOptions& o) {
  model::RunLimits limits;
  limits.max_rows = o.max_num_batched_tokens;
  limits.max_seqs = o.max_num_seqs;
  limits.max_context = o.max_model_len;
  // A step of decodes is one group, so that the head's weights are read once; and prompt_logprobs
  // come in groups that keep the matrix units busy.
  constexpr int64_t kFewestRows = 64;
  limits.logit_group_rows =
      std::min(std::max(o.max_num_seqs, kFewestRows), o.max_num_batched_tokens);
  return limits;
}

// The longest max_model_len of which one sequence fits into the pool. The pool is sized with the
// full length's activations: a shorter length needs no more of them.
Expected<int64_t> FitModelLen(const EngineOptions& resolved, const model::CausalLm& model,
                              const MemoryBudget& memory) {
  const model::RunLimits limits = LimitsOf(resolved);
  ASSIGN_OR_RETURN(const int64_t blocks, PoolBlocks(resolved, model, limits, memory));
  const int64_t full = resolved.max_model_len;
  const int64_t fits = std::min(full, (blocks - 1) * resolved.block_size);
  if (fits == full) {
    LOG_INFO("Auto-fit max_model_len: full model context length {} fits in available memory", full);
  } else {
    const int64_t bytes = KvBytes(resolved, model, limits, memory)
                              .value_or(blocks * model.KvBlockBytes(resolved.block_size));
    LOG_INFO("Auto-fit max_model_len: reduced from {} to {} to fit in available memory ({:.2f} GiB "
             "available for KV cache)",
             full, fits, static_cast<double>(bytes) / kGiB);
  }
  return fits;
}

// 1234567 as 1,234,567.
std::string WithCommas(int64_t value) {
  std::string digits = std::to_string(value);
  for (int64_t i = static_cast<int64_t>(digits.size()) - 3; i > 0; i -= 3) {
    digits.insert(static_cast<size_t>(i), ",");
  }
  return digits;
}

}  // namespace

Status CheckOptions(EngineOptions options, int64_t max_position) {
  RETURN_IF_ERROR(CheckRanges(options));
  RETURN_IF_ERROR(ResolveModelLen(&options, max_position));
  // A length that is fitted to the memory is not known yet.
  return options.fit_max_model_len ? OkStatus() : ResolveScheduling(&options);
}

int64_t MostCachedTokens(EngineOptions options, int64_t max_position) {
  if (options.max_model_len == 0) options.max_model_len = max_position;
  // What a length that is fitted to the memory does not pass has filled in all the same what is asked here.
  (void)ResolveScheduling(&options);
  return (1 + options.max_num_seqs * BlocksPerSequence(options)) * options.block_size;
}

Expected<EngineConfig> Configure(EngineOptions options, const model::CausalLm& model,
                                 const MemoryBudget& memory) {
  EngineConfig config;
  RETURN_IF_ERROR(CheckRanges(options));
  RETURN_IF_ERROR(ResolveModelLen(&options, model.max_position()));
  if (options.fit_max_model_len) {
    EngineOptions full = options;
    RETURN_IF_ERROR(ResolveScheduling(&full));
    ASSIGN_OR_RETURN(options.max_model_len, FitModelLen(full, model, memory));
  }
  RETURN_IF_ERROR(ResolveScheduling(&options));
  RETURN_IF_ERROR(ResolveDrafts(&options, model));
  std::erase_if(options.eos_token_ids,
                [&](int32_t id) { return id < 0 || id >= model.vocab_size(); });

  config.limits = LimitsOf(options);
  ASSIGN_OR_RETURN(config.kv.num_blocks, NumBlocks(options, model, config.limits, memory));
  RETURN_IF_ERROR(
      CheckCacheExists(options, config.kv.num_blocks, model, config.limits, memory));
  config.kv.block_size = options.block_size;
  const int64_t pool_tokens = (config.kv.num_blocks - 1) * options.block_size;
  config.max_length = std::min(options.max_model_len, pool_tokens);
  LOG_INFO("CPU KV cache size: {} tokens, Maximum concurrency for {} tokens per request: {:.2f}x",
           WithCommas(pool_tokens), WithCommas(options.max_model_len),
           static_cast<double>(pool_tokens) / static_cast<double>(options.max_model_len));
  config.options = std::move(options);
  return config;
}

}  // namespace tiercel::engine
