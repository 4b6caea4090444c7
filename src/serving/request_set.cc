#include "serving/request_set.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <utility>

#include "api/stream_reader.h"
#include "base/clock.h"

namespace tiercel::serving {

struct RequestSet::Board {
  ~Board() {
    if (fd >= 0) ::close(fd);
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<int64_t> numbers;
  int fd = -1;  // counts up with each number, if there is one
};

struct RequestSet::Request {
  Request(api::ResponsePlan plan, std::vector<int32_t> ids)
      : prompt_token_ids(std::move(ids)),
        answer(std::move(plan)),
        tokens(static_cast<size_t>(answer.num_choices())) {}

  bool done() const { return error.has_value() || answer.finished(); }
  void Read() {
    for (size_t i = 0; i < streams.size(); ++i) {
      auto failed = api::ReadStream(
          &answer, static_cast<int>(i), streams[i].get(), &events, [] {},
          [&](int choice, std::span<const engine::OutputToken> more) {
            auto& all = tokens[static_cast<size_t>(choice)];
            all.insert(all.end(), more.begin(), more.end());
          });
      if (failed && !error) error = std::move(*failed);
    }
    // Shared with who reads it, who may outlive the request. Of a model that pools the body is made of it, too.
    api::PromptResult& prompt = answer.prompts.at(0);
    if (!prompt.known || prompt_info != nullptr) return;
    prompt_info = answer.plan.pooling != nullptr
                      ? std::make_shared<const engine::PromptInfo>(prompt.info)
                      : std::make_shared<const engine::PromptInfo>(std::move(prompt.info));
  }

  std::vector<int32_t> prompt_token_ids;
  std::shared_ptr<const engine::PromptInfo> prompt_info;
  api::Answer answer;
  std::vector<std::vector<engine::OutputToken>> tokens;  // of each choice, not taken yet
  std::optional<api::ApiError> error;
  bool counted = true;  // among those that run
  std::vector<engine::StreamEvent> events;
  std::vector<std::unique_ptr<engine::Stream>> streams;  // last: their news come from other threads
};

RequestSet::RequestSet(std::shared_ptr<const OfflineEngine> engine)
    : engine_(std::move(engine)), board_(std::make_unique<Board>()) {}

RequestSet::~RequestSet() = default;

void RequestSet::Leave(int64_t number) {
  int fd = -1;
  {
    const std::lock_guard lock(board_->mutex);
    board_->numbers.push_back(number);
    fd = board_->fd;
  }
  board_->changed.notify_one();
  const uint64_t one = 1;
  if (fd >= 0) (void)!::write(fd, &one, sizeof(one));
}

api::Result<int64_t> RequestSet::Submit(std::string_view path, std::string_view body) {
  const api::Endpoint* endpoint = api::FindEndpoint(path);
  if (endpoint == nullptr) return api::Fail(api::BadRequest(fmt::format("no endpoint {}", path)));
  API_ASSIGN_OR_RETURN(api::PreparedRequest prepared, engine_->Prepare(*endpoint, body));
  auto request = std::make_unique<Request>(std::move(prepared.plan), prepared.requests.at(0).prompt);
  const std::lock_guard lock(mutex_);
  const int64_t number = num_submitted_++;
  for (engine::Request& each : prepared.requests) {
    auto stream = engine_->engine().Submit(std::move(each), [this, number] { Leave(number); });
    if (!stream) return api::Fail(api::FromStatus(stream.error()));
    request->streams.push_back(std::move(*stream));
  }
  requests_.emplace(number, std::move(request));
  ++num_running_;
  return number;
}

bool RequestSet::AwaitNews(double deadline) {
  std::unique_lock lock(board_->mutex);
  const auto left = std::chrono::duration<double>(deadline - SteadyClock().Now());
  return board_->changed.wait_for(lock, left, [&] { return !board_->numbers.empty(); });
}

std::vector<int64_t> RequestSet::ReadNews() {
  std::vector<int64_t> numbers;
  {
    const std::lock_guard lock(board_->mutex);
    numbers.swap(board_->numbers);
    uint64_t count = 0;
    if (board_->fd >= 0) (void)!::read(board_->fd, &count, sizeof(count));
  }
  const std::lock_guard lock(mutex_);
  std::erase_if(numbers, [&](int64_t number) {
    const auto it = requests_.find(number);
    if (it == requests_.end()) return true;
    it->second->Read();
    if (it->second->done() && std::exchange(it->second->counted, false)) --num_running_;
    return false;
  });
  return numbers;
}

std::vector<int64_t> RequestSet::Wait(double seconds) {
  if (!AwaitNews(SteadyClock().Now() + seconds)) return {};
  return ReadNews();
}

Expected<int64_t> RequestSet::Run(double seconds) {
  const double deadline = SteadyClock().Now() + seconds;
  while (true) {
    {
      const std::lock_guard lock(mutex_);
      if (num_running_ == 0) return 0;
    }
    if (!engine_->engine().healthy()) return Unexpected(Internal("the engine has failed"));
    if (!AwaitNews(deadline)) break;
    ReadNews();
  }
  const std::lock_guard lock(mutex_);
  return num_running_;
}

void RequestSet::Wake() { Leave(-1); }

int RequestSet::EventFd() {
  const std::lock_guard lock(board_->mutex);
  if (board_->fd < 0) {
    board_->fd = ::eventfd(static_cast<unsigned>(board_->numbers.size()), EFD_NONBLOCK | EFD_CLOEXEC);
  }
  return board_->fd;
}

api::Result<RequestNews> RequestSet::Take(int64_t number) {
  const std::lock_guard lock(mutex_);
  Request& request = *requests_.at(number);
  if (request.error) return api::Fail(*request.error);
  RequestNews news;
  news.done = request.done();
  news.prompt_token_ids = request.prompt_token_ids;
  news.prompt_info = request.prompt_info;
  if (request.answer.plan.pooling != nullptr) {
    if (news.done) news.body = api::NewPoolingWriter(request.answer)->TakeBody();
    return news;
  }
  for (int i = 0; i < request.answer.num_choices(); ++i) {
    api::OutputAssembler& choice = request.answer.choice(i);
    news.choices.push_back({choice.Take().content,
                            std::exchange(request.tokens[static_cast<size_t>(i)], {}),
                            choice.finish()});
  }
  return news;
}

void RequestSet::Drop(int64_t number) {
  std::unique_ptr<Request> dropped;  // its streams end without the lock
  const std::lock_guard lock(mutex_);
  const auto it = requests_.find(number);
  if (it == requests_.end()) return;
  if (it->second->counted) --num_running_;
  dropped = std::move(it->second);
  requests_.erase(it);
}

}  // namespace tiercel::serving
