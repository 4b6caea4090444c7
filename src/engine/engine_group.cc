// Engine::Group: several engines behind the interface of one.
#include <algorithm>
#include <atomic>
#include <exception>
#include <future>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/engine.h"
#include "engine/prefix_hash.h"
#include "engine/request_router.h"

namespace tiercel::engine {
namespace {

// The router, and its lock: requests come and go on any thread.
struct Routing {
  Routing(int num_engines, int64_t cache_blocks, int block_size)
      : router(num_engines, cache_blocks, block_size) {}

  std::mutex mutex;
  RequestRouter router;
};

// A stream that tells the router how far its request is.
class RoutedStream final : public Stream {
 public:
  // Where the request goes; it counts there until it ends.
  RoutedStream(std::shared_ptr<Routing> routing, const RequestRouter::Work& work)
      : routing_(std::move(routing)) {
    const std::lock_guard lock(routing_->mutex);
    ticket_ = routing_->router.Route(work);
  }
  ~RoutedStream() override { Finish(); }

  int engine() const { return ticket_.engine; }

  void SetStream(std::unique_ptr<Stream> stream) { stream_ = std::move(stream); }

  bool Poll(std::vector<StreamEvent>* events) override {
    const bool news = stream_->Poll(events);
    if (news && stream_->finished()) Finish();
    return news;
  }
  bool Wait(double seconds) override { return stream_->Wait(seconds); }
  void Stop(int index) override {
    stream_->Stop(index);
    if (stream_->finished()) Finish();
  }
  bool finished() const override { return stream_->finished(); }
  std::optional<PromptInfo> TakePromptInfo() override {
    std::optional<PromptInfo> info = stream_->TakePromptInfo();
    if (info) {
      const std::lock_guard lock(routing_->mutex);
      routing_->router.PromptDone(&ticket_);
    }
    return info;
  }

 private:
  void Finish() {
    const std::lock_guard lock(routing_->mutex);
    routing_->router.Finish(&ticket_);
  }

  std::shared_ptr<Routing> routing_;  // may outlive the engines, as streams do
  RequestRouter::Ticket ticket_;
  std::unique_ptr<Stream> stream_;
};

class EngineGroup final : public Engine {
 public:
  explicit EngineGroup(std::vector<std::unique_ptr<Engine>> engines)
      : engines_(std::move(engines)),
        routing_(std::make_shared<Routing>(static_cast<int>(engines_.size()),
                                           engines_[0]->GetStats()[0].num_gpu_blocks,
                                           options().block_size)) {}

  // All at once: each aborts what runs.
  ~EngineGroup() override {
    ForAll([](std::unique_ptr<Engine>& engine) {
      engine.reset();
      return true;
    });
  }

  Expected<std::unique_ptr<Stream>> Submit(Request request, std::function<void()> on_news) override;

  void SetStepHook(std::function<void()> hook) override {
    for (const auto& engine : engines_) engine->SetStepHook(hook);
  }
  const EngineOptions& options() const override { return engines_[0]->options(); }

  std::vector<Stats> GetStats() const override {
    std::vector<Stats> stats;
    for (const auto& engine : engines_) stats.push_back(engine->GetStats()[0]);
    return stats;
  }

  bool ResetPrefixCache() override {
    bool all = true;
    for (size_t i = 0; i < engines_.size(); ++i) {
      if (engines_[i]->ResetPrefixCache()) {
        const std::lock_guard lock(routing_->mutex);
        routing_->router.Forget(static_cast<int>(i));
      } else {
        all = false;
      }
    }
    return all;
  }

  bool Sleep(bool abort) override {
    const bool all = ForAll([abort](std::unique_ptr<Engine>& engine) { return engine->Sleep(abort); });
    const std::lock_guard lock(routing_->mutex);
    for (size_t i = 0; i < engines_.size(); ++i) routing_->router.Forget(static_cast<int>(i));
    return all;
  }
  void WakeUp() override {
    for (const auto& engine : engines_) engine->WakeUp();
  }
  bool sleeping() const override { return engines_[0]->sleeping(); }

  bool healthy() const override {
    return std::all_of(engines_.begin(), engines_.end(),
                       [](const auto& engine) { return engine->healthy(); });
  }

  void Drain(double grace_seconds) override {
    ForAll([grace_seconds](std::unique_ptr<Engine>& engine) {
      engine->Drain(grace_seconds);
      return true;
    });
  }

 private:
  // Calls `work` for every engine at the same time; whether all calls gave true. Where there is no thread or no
  // memory for that, for one after the other.
  template <typename F>
  bool ForAll(F&& work) {
    std::vector<std::future<bool>> others;
    others.reserve(engines_.size());
    bool all = true;
    for (size_t i = 1; i < engines_.size(); ++i) {
      try {
        others.push_back(std::async(std::launch::async, [&, i] { return work(engines_[i]); }));
      } catch (const std::exception&) {
        all = work(engines_[i]) && all;
      }
    }
    all = work(engines_[0]) && all;
    for (std::future<bool>& other : others) all = other.get() && all;
    return all;
  }

  std::vector<BlockHash> BlocksOf(const Request& request) const;

  std::vector<std::unique_ptr<Engine>> engines_;
  const PrefixHasher hasher_;
  std::shared_ptr<Routing> routing_;  // shared with the streams
  std::atomic<uint64_t> num_submitted_{0};
};

// The names of the prompt's full blocks: the router's own, under a key of its own.
std::vector<BlockHash> EngineGroup::BlocksOf(const Request& request) const {
  std::vector<BlockHash> blocks;
  const auto size = static_cast<size_t>(options().block_size);
  // What is longer will be refused.
  if (!options().enable_prefix_caching || std::ssize(request.prompt) > options().max_model_len) return blocks;
  blocks.reserve(request.prompt.size() / size);
  const std::span<const int32_t> prompt(request.prompt);
  BlockHash hash = hasher_.Root(request.cache_salt);
  for (size_t at = 0; at + size <= prompt.size(); at += size) {
    hash = hasher_.Next(hash, prompt.subspan(at, size));
    blocks.push_back(hash);
  }
  return blocks;
}

Expected<std::unique_ptr<Stream>> EngineGroup::Submit(Request request,
                                                      std::function<void()> on_news) {
  const std::vector<BlockHash> blocks = BlocksOf(request);
  RequestRouter::Work work;
  work.prompt_tokens = std::ssize(request.prompt);
  work.blocks = blocks;
  if (request.params != nullptr) {
    work.samples = request.params->n;
    work.output_tokens = std::min(request.params->max_tokens, options().max_model_len) * work.samples;
  }
  auto routed = std::make_unique<RoutedStream>(routing_, work);
  // The engines count their own: samples of several would draw alike.
  if (!request.number) request.number = num_submitted_++;
  ASSIGN_OR_RETURN(std::unique_ptr<Stream> stream, engines_[static_cast<size_t>(routed->engine())]->Submit(
                                                       std::move(request), std::move(on_news)));
  routed->SetStream(std::move(stream));
  return routed;
}

}  // namespace

std::unique_ptr<Engine> Engine::Group(std::vector<std::unique_ptr<Engine>> engines) {
  CHECK(!engines.empty());
  if (engines.size() == 1) return std::move(engines[0]);
  return std::make_unique<EngineGroup>(std::move(engines));
}

}  // namespace tiercel::engine
