#include "engine/engine.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/beam_search.h"
#include "engine/engine_config.h"
#include "engine/engine_loop.h"
#include "engine/inbox.h"
#include "sampling/random.h"

namespace tiercel::engine {
namespace {

// Log-probability entries that one request may make the engine hold (16 bytes each: 1 GiB).
constexpr int64_t kMaxLogprobEntries = int64_t{1} << 26;

// Of all requests together: an eighth of the memory, and no more than twice a request's.
int64_t MaxLogprobEntries(const MemoryBudget& memory) {
  constexpr int64_t kMost = 2 * kMaxLogprobEntries;
  if (memory.total <= 0) return kMost;
  return std::min<int64_t>(kMost, memory.total / 8 / memory.engines / sizeof(TokenLogprob));
}

class StreamHandle final : public Stream {
 public:
  StreamHandle(std::shared_ptr<StreamState> state, std::shared_ptr<Inbox> inbox)
      : state_(std::move(state)), inbox_(std::move(inbox)) {}

  ~StreamHandle() override {
    state_->Close();
    inbox_->Leave(state_, state_->finished());
  }

  bool Poll(std::vector<StreamEvent>* events) override { return state_->Poll(events); }
  bool Wait(double seconds) override { return state_->Wait(seconds); }

  void Stop(int index) override {
    if (state_->MarkStopped(index)) inbox_->StopSample(state_, index);
  }

  bool finished() const override { return state_->finished(); }
  std::optional<PromptInfo> TakePromptInfo() override { return state_->TakePromptInfo(); }

 private:
  std::shared_ptr<StreamState> state_;  // shared with the engine thread
  std::shared_ptr<Inbox> inbox_;        // may outlive the engine
};

class EngineImpl final : public Engine {
 public:
  EngineImpl(EngineConfig config, std::unique_ptr<model::CausalLm> model,
             const sampling::VectorOps& ops, int64_t max_logprob_entries)
      : config_(std::move(config)), model_(std::move(model)),
        pooler_(model_->hidden_size(), config_.options.classifier),
        clock_(config_.options.clock != nullptr ? config_.options.clock : &steady_clock_),
        inbox_(std::make_shared<Inbox>(InboxLimits{config_.options.max_num_queued_reqs,
                                                   config_.options.max_num_queued_tokens,
                                                   max_logprob_entries})),
        loop_(config_, model_.get(), ops, clock_, inbox_) {
    thread_ = std::thread([this] { loop_.Run([this] { ReportIdle(); }); });
  }

  ~EngineImpl() override {
    inbox_->ShutDown();
    thread_.join();
  }

  Expected<std::unique_ptr<Stream>> Submit(Request request,
                                           std::function<void()> on_news) override;
  void SetStepHook(std::function<void()> hook) override { loop_.SetStepHook(std::move(hook)); }
  const EngineOptions& options() const override { return config_.options; }

  std::vector<Stats> GetStats() const override {
    Stats stats = loop_.GetStats();
    const Inbox::Rejected rejected = inbox_->num_rejected();
    stats.rejected_queued_reqs = rejected.requests;
    stats.rejected_queued_tokens = rejected.tokens;
    const model::GraphStats graph = model_->graph_stats();
    stats.steps_replayed = graph.replayed;
    stats.steps_eager = graph.eager;
    return {std::move(stats)};
  }

  bool ResetPrefixCache() override {
    std::promise<bool> answer;
    std::future<bool> future = answer.get_future();
    return inbox_->ResetPrefixCache(&answer) && future.get();
  }

  bool Sleep(bool abort) override {
    std::promise<bool> answer;
    std::future<bool> future = answer.get_future();
    return inbox_->Sleep(abort, &answer) && future.get();
  }
  void WakeUp() override { inbox_->WakeUp(); }
  bool sleeping() const override { return inbox_->sleeping(); }

  bool healthy() const override { return loop_.healthy(); }
  void Drain(double grace_seconds) override;

 private:
  Status Check(const Request& request) const;
  Expected<std::unique_ptr<Stream>> Submit(Request request, std::function<void()> on_news, Inbox::Search* search);
  Expected<std::unique_ptr<Stream>> SearchBeams(Request request, std::function<void()> on_news);

  void ReportIdle() {
    std::lock_guard lock(idle_mutex_);
    ++idle_reports_;
    idle_changed_.notify_all();
  }

  EngineConfig config_;
  SteadyClock steady_clock_;
  std::unique_ptr<model::CausalLm> model_;
  const Pooler pooler_;
  const Clock* clock_;
  std::shared_ptr<Inbox> inbox_;  // shared with the streams
  std::atomic<uint64_t> num_submitted_{0};
  std::mutex idle_mutex_;
  std::condition_variable idle_changed_;
  int64_t idle_reports_ = 0;
  EngineLoop loop_;
  std::thread thread_;
};

Status EngineImpl::Check(const Request& request) const {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t max_model_len = config_.options.max_model_len;
  const bool pools = request.pooling != nullptr;
  if (pools != (model_->head() == checkpoint::Head::kHidden)) {
    return InvalidArgument("The model {}.", pools ? "gives tokens, not vectors or labels"
                                                  : "gives vectors or labels, not tokens");
  }
  if (pools) RETURN_IF_ERROR(pooler_.Check(*request.pooling));
  const int64_t output = pools ? 0 : 1;  // tokens for which there must be room
  if (prompt == 0) {
    return InvalidArgument("The decoder prompt cannot be empty").WithParam("prompt");
  }
  if (prompt + output > max_model_len) {
    return InvalidArgument(
               "This model's maximum context length is {} tokens. However, your prompt contains {} "
               "input tokens, which exceeds this limit even without any output tokens. Please "
               "reduce the length of the input prompt. (parameter=input_tokens, value={})",
               max_model_len, prompt, prompt)
        .WithParam("input_tokens");
  }
  if (prompt + output > config_.max_length) {
    return InvalidArgument(
               "The prompt of {} tokens can never run: the KV cache holds {} tokens ({} blocks of "
               "{}){}. Shorten the prompt or give the server a larger KV cache.",
               prompt, config_.max_length, config_.kv.num_blocks - 1, config_.kv.block_size,
               pools ? "" : ", and at least one output token is needed")
        .WithParam("input_tokens");
  }
  for (const int32_t token : request.prompt) {
    if (token < 0 || token >= model_->vocab_size()) {
      return InvalidArgument("Token id {} is out of vocabulary", token).WithParam("prompt");
    }
  }
  if (request.priority != 0 && config_.options.scheduling_policy == SchedulingPolicy::kFcfs) {
    return InvalidArgument("Got priority {} but Priority scheduling is not enabled.",
                           request.priority)
        .WithParam("priority");
  }
  return OkStatus();
}

// How many log-probability entries, or as much of pooled values, a request may give; refused before any
// of it is allocated.
Status CheckEntries(int64_t wanted, const char* param) {
  if (wanted <= kMaxLogprobEntries) return OkStatus();
  return InvalidArgument(
             "{} would give up to {} entries for this request, more than the {} that a request "
             "may have. Ask for fewer logprobs, fewer tokens or fewer samples.",
             param, wanted, kMaxLogprobEntries)
      .WithParam(param);
}

Expected<int64_t> CountLogprobEntries(const sampling::SamplingParams& params, int64_t prompt,
                                      int64_t max_output, int64_t vocab_size) {
  const auto entries = [vocab_size](std::optional<int> count, int64_t tokens) {
    if (!count) return int64_t{0};
    return tokens * (1 + (*count < 0 ? vocab_size : int64_t{*count}));
  };
  const int64_t of_prompt = entries(params.prompt_logprobs, prompt);
  const int64_t of_output = entries(params.logprobs, max_output * params.n);
  RETURN_IF_ERROR(CheckEntries(of_prompt, "prompt_logprobs"));
  RETURN_IF_ERROR(CheckEntries(of_output, "logprobs"));
  return of_prompt + of_output;
}

Expected<int64_t> CountPooledEntries(const PoolingParams& params, int64_t prompt, int64_t width) {
  constexpr int64_t kFloats = sizeof(TokenLogprob) / sizeof(float);  // that an entry stands for
  const int64_t entries = (params.every_token() ? prompt : 1) * width / kFloats;
  RETURN_IF_ERROR(CheckEntries(entries, "task"));
  return entries;
}

void AddSamples(const EngineOptions& options, uint64_t number, RequestState* state) {
  const sampling::SamplingParams& params = *state->params;
  const uint64_t seed = params.seed.value_or(sampling::DerivedSeed(options.seed, number));
  const auto context = std::make_shared<const sampling::SamplingContext>(
      state->params, state->prompt, options.eos_token_ids);
  for (int i = 0; i < params.n; ++i) {
    auto& sequence = state->sequences.emplace_back(std::make_unique<Sequence>());
    sequence->sampling =
        std::make_shared<sampling::SequenceState>(context, sampling::SampleSeed(seed, i));
  }
}

Expected<std::unique_ptr<Stream>> EngineImpl::Submit(Request request,
                                                     std::function<void()> on_news) {
  RETURN_IF_ERROR(Check(request));
  if (request.params != nullptr && request.params->use_beam_search) {
    return SearchBeams(std::move(request), std::move(on_news));
  }
  return Submit(std::move(request), std::move(on_news), nullptr);
}

// `search`: that the request is a part of, or null.
Expected<std::unique_ptr<Stream>> EngineImpl::Submit(Request request, std::function<void()> on_news,
                                                     Inbox::Search* search) {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t room = config_.max_length - prompt;
  int64_t max_tokens = 0, entries = 0;
  if (request.pooling != nullptr) {
    ASSIGN_OR_RETURN(entries,
                     CountPooledEntries(*request.pooling, prompt, pooler_.Width(*request.pooling)));
  } else {
    max_tokens = std::min(request.params->max_tokens, room);
    ASSIGN_OR_RETURN(entries, CountLogprobEntries(*request.params, prompt, max_tokens,
                                                  model_->vocab_size()));
  }

  auto active = std::make_unique<ActiveRequest>();
  active->max_tokens = max_tokens;
  RequestState& state = active->state;
  state.id = num_submitted_++;
  state.prompt = std::move(request.prompt);
  state.params = std::move(request.params);
  state.pooling = std::move(request.pooling);
  state.priority = request.priority;
  state.cache_salt = std::move(request.cache_salt);
  if (state.pooling != nullptr) {
    state.sequences.push_back(std::make_unique<Sequence>());
    active->pooled.reserve(state.pooling->every_token() ? state.prompt.size() : 1);
  } else {
    AddSamples(config_.options, request.number.value_or(state.id), &state);
    if (state.params->prompt_logprobs) active->prompt_logprobs.resize(state.prompt.size());
  }
  const auto num_sequences = static_cast<int>(state.sequences.size());
  for (int i = 0; i < num_sequences; ++i) {
    state.sequences[static_cast<size_t>(i)]->request = &state;
    state.sequences[static_cast<size_t>(i)]->index = i;
  }
  active->arrival_time = clock_->Now();
  active->stream = std::make_shared<StreamState>(num_sequences, std::move(on_news));
  active->stream->request = state.id;
  active->stream->logprob_entries = entries;
  active->num_unfinished = num_sequences;
  // Before the request is let in: from then on nothing here may fail.
  auto handle = std::make_unique<StreamHandle>(active->stream, inbox_);
  if (search != nullptr && search->begun()) {
    RETURN_IF_ERROR(inbox_->SubmitOfSearch(std::move(active), *search));
  } else {
    RETURN_IF_ERROR(inbox_->Submit(std::move(active)));
    if (search != nullptr) search->Begin();
  }
  return handle;
}

Expected<std::unique_ptr<Stream>> EngineImpl::SearchBeams(Request request,
                                                          std::function<void()> on_news) {
  const int64_t room = config_.max_length - std::ssize(request.prompt);
  const int64_t max_tokens = std::min(request.params->max_tokens, room);
  const Expected<int64_t> entries = CountLogprobEntries(
      *request.params, std::ssize(request.prompt), max_tokens, model_->vocab_size());
  if (!entries) return Unexpected(entries.error());
  return StartBeamSearch(
      std::move(request), max_tokens, config_.options.eos_token_ids,
      [this, search = std::make_shared<Inbox::Search>(inbox_)](Request step, std::function<void()> news) {
        return Submit(std::move(step), std::move(news), search.get());
      },
      std::move(on_news));
}

// A year: what a clock counts in nanoseconds has an end.
constexpr double kLongestWait = 366.0 * 24 * 3600;

void EngineImpl::Drain(double grace_seconds) {
  inbox_->StopSubmissions();
  // kDrain comes after every request that was let in; from then on the engine thread reports
  // whenever it has nothing left to do.
  std::unique_lock lock(idle_mutex_);
  const int64_t before = idle_reports_;
  lock.unlock();
  if (!inbox_->Drain()) return;
  lock.lock();
  const auto idle = [&] { return idle_reports_ > before; };
  if (idle_changed_.wait_for(lock, std::chrono::duration<double>(std::min(grace_seconds, kLongestWait)), idle)) return;
  lock.unlock();
  inbox_->AbortAll();
  lock.lock();
  idle_changed_.wait(lock, idle);
}

sampling::VectorOps OpsOf(const kernels::Environment* environment) {
  sampling::VectorOps ops = sampling::PortableVectorOps();
  if (environment == nullptr || environment->kernels == nullptr) return ops;
  const kernels::RowOps& rows = environment->kernels->rows;
  if (rows.argmax != nullptr) ops.argmax = rows.argmax;
  if (rows.sum_exp != nullptr) ops.sum_exp = rows.sum_exp;
  if (rows.collect_at_least != nullptr) ops.collect_at_least = rows.collect_at_least;
  if (rows.count_at_least != nullptr) ops.count_at_least = rows.count_at_least;
  if (rows.keep_allowed != nullptr) ops.keep_allowed = rows.keep_allowed;
  return ops;
}

}  // namespace

Expected<std::unique_ptr<Engine>> Engine::Create(EngineOptions options,
                                                 kernels::Environment* environment,
                                                 std::unique_ptr<model::CausalLm> model) {
  MemoryBudget memory;
  if (environment != nullptr) {
    memory.total = environment->topology.memory_total;
    memory.available = environment->topology.memory_available;
    memory.engines = environment->engines;
    memory.weight_copies = environment->weight_copies;
  }
  ASSIGN_OR_RETURN(EngineConfig config, Configure(std::move(options), *model, memory));
  RETURN_IF_ERROR(model->Prepare(config.kv, config.limits));
  return std::make_unique<EngineImpl>(std::move(config), std::move(model), OpsOf(environment),
                                      MaxLogprobEntries(memory));
}

}  // namespace tiercel::engine
