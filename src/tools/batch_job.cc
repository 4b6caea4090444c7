#include "tools/batch_job.h"

#include "api/json_reader.h"
#include "api/json_writer.h"
#include "api/names.h"
#include "base/log.h"

namespace tiercel::tools {
namespace {

// Answers that wait for the ones before them: then no line is begun until those have come.
constexpr size_t kMaxReady = 4096;
constexpr int kQueueFull = 503;

}  // namespace

struct BatchJob::Request {
  Request(std::string id, api::ResponsePlan plan)
      : custom_id(std::move(id)), responder(std::move(plan)) {}

  std::string custom_id;
  api::Responder responder;
  std::vector<std::unique_ptr<engine::Stream>> streams;  // last: their news come here
};

api::Result<BatchLine> ReadBatchLine(std::string_view text, std::string* custom_id) {
  API_ASSIGN_OR_RETURN(api::Json json, api::ParseBody(text));
  BatchLine line;
  if (const std::string* id = json.FindString("custom_id")) line.custom_id = *custom_id = *id;
  const auto wrong = [](std::string_view field, std::string_view expected) {
    return api::Fail(api::BadRequest(fmt::format("{}: expected {}", field, expected), std::string(field)));
  };
  if (json.FindString("custom_id") == nullptr) return wrong("custom_id", "a string");
  const std::string* method = json.FindString("method");
  if (method == nullptr || *method != "POST") return wrong("method", "\"POST\"");
  const std::string* url = json.FindString("url");
  if (url == nullptr) return wrong("url", "an endpoint such as \"/v1/chat/completions\"");
  line.endpoint = api::FindEndpoint(*url);
  if (line.endpoint == nullptr) {
    std::string names;
    for (const api::Endpoint& e : api::Endpoints()) names += fmt::format(" {}", e.path);
    return wrong("url", fmt::format("one of{}", names));
  }
  api::Json body = json.Take("body");
  if (body.object() == nullptr) return wrong("body", "an object");
  const api::Json* stream = body.Find("stream");
  if (stream != nullptr && stream->boolean() != nullptr && *stream->boolean()) {
    return wrong("body.stream", "false: a batch has whole answers");
  }
  line.body = body.Dump();
  return line;
}

BatchJob::BatchJob(std::shared_ptr<const server::LoadedModel> model, std::string fingerprint)
    : model_(std::move(model)),
      fingerprint_(std::move(fingerprint)),
      max_running_(2 * static_cast<size_t>(model_->engine->options().max_num_seqs) *
                   model_->engine->GetStats().size()) {}

BatchJob::~BatchJob() = default;

void BatchJob::Wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

void BatchJob::Answer(int64_t index, const std::string& custom_id, int status,
                      const std::string& body) {
  std::string line = R"({"id":"vllm-)" + api::RandomId() + R"(","custom_id":)";
  api::AppendJsonString(&line, custom_id);
  line += fmt::format(R"(,"response":{{"status_code":{},"request_id":"vllm-batch-{}","body":)", status,
                      api::RandomId());
  const bool ok = status == 200;
  line += ok ? body + R"(},"error":null})" : R"(null},"error":)" + body + "}";
  line += '\n';
  ready_.emplace(index, std::move(line));
  ++counts_.done;
  counts_.failed += !ok;
}

bool BatchJob::Start(int64_t index, const BatchLine& line) {
  const auto fail = [&](const api::ApiError& error) {
    if (error.http_status == kQueueFull && !running_.empty()) return false;  // room comes with their ends
    Answer(index, line.custom_id, error.http_status, api::ErrorBody(error));
    return true;
  };
  if (const auto error = api::CheckOffered(*line.endpoint, model_->info)) return fail(*error);
  auto prepared = api::Guarded(
      [&] { return line.endpoint->prepare(line.body, "", model_->info, model_->api); });
  if (!prepared) return fail(prepared.error());
  prepared->plan.fingerprint = fingerprint_;
  auto request = std::make_unique<Request>(line.custom_id, std::move(prepared->plan));
  for (engine::Request& each : prepared->requests) {
    auto stream = model_->engine->Submit(std::move(each), [this, index] {
      {
        const std::lock_guard lock(mutex_);
        news_.push_back(index);
      }
      changed_.notify_all();
    });
    if (!stream) return fail(api::FromStatus(stream.error()));
    request->streams.push_back(std::move(*stream));
  }
  running_.emplace(index, std::move(request));
  return true;
}

Status BatchJob::StartNext(const Source& next) {
  std::string custom_id;
  if (!refused_) {
    ASSIGN_OR_RETURN(const std::optional<std::string> text, next());
    if (!text) {
      at_end_ = true;
      return OkStatus();
    }
    api::Result<BatchLine> line = api::Guarded([&] { return ReadBatchLine(*text, &custom_id); });
    if (!line) {
      Answer(num_read_++, custom_id, line.error().http_status, api::ErrorBody(line.error()));
      return OkStatus();
    }
    refused_ = std::move(*line);
  }
  if (!Start(num_read_, *refused_)) return OkStatus();
  refused_.reset();
  ++num_read_;
  return OkStatus();
}

// Waits for news, and takes all that there is.
void BatchJob::TakeNews(const std::atomic<bool>& stop) {
  std::vector<int64_t> news;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return woken_ || stop || !news_.empty(); });
    woken_ = false;
    news.swap(news_);
  }
  for (const int64_t index : news) {
    const auto it = running_.find(index);
    if (it == running_.end()) continue;
    Request& request = *it->second;
    for (size_t i = 0; i < request.streams.size(); ++i) {
      request.responder.Consume(static_cast<int>(i), request.streams[i].get());
    }
    if (!request.responder.done()) continue;
    const std::optional<api::ApiError>& error = request.responder.error();
    if (error) {
      Answer(index, request.custom_id, error->http_status, api::ErrorBody(*error));
    } else {
      Answer(index, request.custom_id, 200, request.responder.TakeBody());
    }
    running_.erase(it);
  }
}

Status BatchJob::WriteReady(const Sink& write) {
  while (!ready_.empty() && ready_.begin()->first == num_written_) {
    RETURN_IF_ERROR(write(ready_.begin()->second));
    ready_.erase(ready_.begin());
    ++num_written_;
  }
  return OkStatus();
}

Status BatchJob::Run(const Source& next, const Sink& write, const std::atomic<bool>& stop,
                     const std::function<void(const Counts&)>& progress) {
  while (!at_end_ || !running_.empty()) {
    if (stop) return Status(StatusCode::kCancelled, "stopped");
    const bool was_refused = refused_.has_value();
    if (!at_end_ && running_.size() < max_running_ && ready_.size() < kMaxReady && !was_refused) {
      RETURN_IF_ERROR(StartNext(next));
    } else if (!running_.empty()) {
      TakeNews(stop);
      if (was_refused && !stop) RETURN_IF_ERROR(StartNext(next));
    }
    // The answers of a failed engine are none of the requests'.
    if (!model_->engine->healthy()) return Internal("the engine has failed");
    RETURN_IF_ERROR(WriteReady(write));
    progress(counts_);
  }
  return OkStatus();
}

}  // namespace tiercel::tools
