// Engine: the only header of the engine that servers and tools see.
//
// Submit puts a request on the inbox and returns its Stream; the engine thread alone owns the
// scheduler, the blocks and the sequences. Dropping the Stream cancels the request within one
// step. All members of Engine may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "engine/ngram_drafter.h"
#include "engine/pooling.h"
#include "engine/stats.h"
#include "kernels/environment.h"
#include "model/causal_lm.h"
#include "sampling/sampler.h"
#include "sampling/sampling_params.h"

namespace tiercel::engine {

enum class SchedulingPolicy { kFcfs, kPriority };
using LogprobsMode = sampling::LogprobsMode;

// Names and meanings are those of vLLM's flags. 0 or nullopt: derived, see the field.
struct EngineOptions {
  int index = 0;                       // among engines of one group, for the log and metrics
  int64_t max_model_len = 0;           // 0: the model's
  bool fit_max_model_len = false;      // lower it to what one sequence's KV cache has room for
  int64_t max_num_batched_tokens = 0;  // 0: 2048 (server)
  int64_t max_num_seqs = 0;            // 0: 128 (server)
  int block_size = 128;
  double gpu_memory_utilization = 0.92;
  std::optional<int64_t> kv_cache_memory_bytes;
  std::optional<int64_t> num_gpu_blocks_override = {};
  bool enable_prefix_caching = true;
  bool enable_chunked_prefill = true;
  int64_t long_prefill_token_threshold = 0;
  SchedulingPolicy scheduling_policy = SchedulingPolicy::kFcfs;
  double target_itl = 0;  // seconds between two tokens of a stream while prompts come; 0: no target
  bool async_scheduling = true;        // never with drafts
  std::optional<DraftOptions> drafts = {};  // a decode's next tokens are guessed, and several verified in a step
  int64_t max_num_queued_reqs = 0;    // 0: no limit
  int64_t max_num_queued_tokens = 0;  // 0: no limit
  LogprobsMode logprobs_mode = LogprobsMode::kRawLogprobs;
  std::shared_ptr<const model::Classifier> classifier = {};  // of a model that classifies, else null
  // [0] is the primary eos (stop_reason null), the others give a stop_reason.
  std::vector<int32_t> eos_token_ids = {};
  uint64_t seed = 0;
  bool allow_long_max_model_len = false;  // VLLM_ALLOW_LONG_MAX_MODEL_LEN=1
  double log_stats_interval = 10;  // seconds between the log's throughput lines; 0: none
  const Clock* clock = nullptr;    // null: the steady clock; else it outlives the engine
};

// Memory as the engine found it; 0 total: unknown.
struct MemoryBudget {
  int64_t total = 0;      // bytes that the machine or the cgroup gives
  int64_t available = 0;  // before the weights were loaded
  // Engines that share it, in equal parts beside the copies of the weights.
  int engines = 1, weight_copies = 1;
};

// Bytes that weights, activations and the KV cache may take together; the budget's total is known.
int64_t UsableMemory(const EngineOptions& options, const MemoryBudget& memory);

// What creating an engine refuses whatever the weights and the memory are: flags out of range, or that
// do not fit each other or a model whose longest sequence is `max_position`.
Status CheckOptions(EngineOptions options, int64_t max_position);

// Tokens of a KV cache that the engine can ever use: max_num_seqs sequences of max_model_len, in whole blocks.
// The options are such as CheckOptions lets pass.
int64_t MostCachedTokens(EngineOptions options, int64_t max_position);

struct Request {
  std::string id;
  std::vector<int32_t> prompt;  // 1 … max_model_len − 1 tokens; to be pooled: 1 … max_model_len
  // One of the two, as the model's head is. Shared by the prompts of one body and by their samples.
  // Sampling parameters are validated for the model's vocabulary. More max_tokens than the prompt
  // leaves room for are granted: the length ends it, as in vLLM.
  std::shared_ptr<const sampling::SamplingParams> params;
  std::shared_ptr<const PoolingParams> pooling;
  int priority = 0;  // lower runs first, under kPriority
  std::string cache_salt;
  // What samples without a seed of their own draw depends on it and on EngineOptions::seed. Not given: the
  // engine counts.
  std::optional<uint64_t> number;
};

// kRepetition: see SamplingParams::repetition_detection.
enum class FinishReason { kNone, kStop, kLength, kRepetition, kAbort, kError };

using TokenLogprob = sampling::TokenLogprob;

// One output token. top[0] is the token itself, then the most likely ones, best first.
struct OutputToken {
  int32_t token = 0;
  std::vector<TokenLogprob> top;  // empty if logprobs were not asked for
};

// What one step (or several, if the reader was slow) added to one of the n samples.
struct StreamEvent {
  int index = 0;  // of the sample, 0 … n − 1
  std::vector<OutputToken> tokens;
  FinishReason finish = FinishReason::kNone;
  std::optional<int32_t> stop_token;  // which stop token id, when it was not the primary eos
  Status error;                       // of kError
};

// In seconds of the engine's clock: EngineOptions::clock, the steady clock.
struct PromptTimes {
  double submitted = 0, first_scheduled = 0;
  double computed = 0;  // with the first token
};

// Known once the prompt has been computed; comes before or with the first token.
struct PromptInfo {
  int64_t cached_tokens = 0;  // found in the prefix cache
  // prompt_logprobs[i] belongs to prompt token i; [0] is empty. Only if asked for.
  std::vector<std::vector<TokenLogprob>> prompt_logprobs;
  // Of a request that pools, with its end: the values of its last token, or of every token in order.
  std::vector<std::vector<float>> pooled;
  PromptTimes times;
};

// The reading end of one request. Not thread-safe: one reader at a time.
class Stream {
 public:
  virtual ~Stream() = default;  // cancels what is unfinished

  // Replaces *events by what has come since the last call, without waiting; false if there is
  // nothing new. At most one event per sample.
  virtual bool Poll(std::vector<StreamEvent>* events) = 0;
  // Waits until Poll would give something, or the time is over. For tools and tests.
  virtual bool Wait(double seconds) = 0;
  // Ends sample `index` early with the reader's own reason (a stop string was found): frees its
  // blocks within one step, counts as `stop` in the statistics, no event follows.
  virtual void Stop(int index) = 0;
  virtual bool finished() const = 0;  // every sample's last event has been taken
  virtual std::optional<PromptInfo> TakePromptInfo() = 0;
};

class Engine {
 public:
  // Sizes the KV cache and prepares the model, which the engine then owns. `environment` gives the
  // memory to size the cache from and the kernels' row operators; it outlives the engine. It may
  // be null (tests, with a model that needs none): then the sampler uses portable code and the
  // cache takes the largest useful size, if kv_cache_memory_bytes or num_gpu_blocks_override do
  // not give one.
  static Expected<std::unique_ptr<Engine>> Create(EngineOptions options,
                                                  kernels::Environment* environment,
                                                  std::unique_ptr<model::CausalLm> model);
  // Engines with the same model and options, but for the index, as one. Each request goes to one of them
  // (engine/request_router.h says to which); all else is for all of them.
  static std::unique_ptr<Engine> Group(std::vector<std::unique_ptr<Engine>> engines);
  virtual ~Engine() = default;  // aborts what runs, joins the thread

  // Refuses (Status) what can never run: prompt too long for max_model_len or the KV pool, full
  // queues (kResourceExhausted), a stopping engine (kUnavailable). `on_news`, if given, is called
  // on the engine thread when the stream has something to Poll and had nothing before; it must
  // not block and must stay callable until the Stream is destroyed. The stream of a beam search submits
  // what it needs while it is polled: it must not be polled once the engine is gone.
  virtual Expected<std::unique_ptr<Stream>> Submit(Request request,
                                                   std::function<void()> on_news) = 0;
  // Called on the engine thread once at the end of each step that called any on_news: one wake-up
  // per step for a server that collects. Of a group on the thread of each engine. Set before the first
  // Submit.
  virtual void SetStepHook(std::function<void()> hook) = 0;

  virtual const EngineOptions& options() const = 0;  // with every derived value filled in
  // A consistent snapshot of each engine: of one, where this is no group. The i-th has the index of
  // options() + i.
  virtual std::vector<Stats> GetStats() const = 0;
  virtual bool ResetPrefixCache() = 0;  // false while blocks are in use
  // Refuses requests from now on (kUnavailable), ends those that run (or waits for their end, without
  // `abort`), and gives the KV cache's memory back to the system; returns then. False if the engine ends
  // first. WakeUp takes requests again.
  virtual bool Sleep(bool abort) = 0;
  virtual void WakeUp() = 0;
  virtual bool sleeping() const = 0;
  virtual bool healthy() const = 0;  // false once an engine thread has failed
  // Refuses new requests and returns when the running ones have ended, or aborts them after
  // `grace_seconds`.
  virtual void Drain(double grace_seconds) = 0;
};

}  // namespace tiercel::engine
