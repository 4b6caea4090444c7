// The functions of include/tiercel.h over OfflineEngine and RequestSet. Nothing is thrown across
// them.
#include <tiercel.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/json_reader.h"
#include "api/openai_writer.h"
#include "base/environ.h"
#include "capi/find_program.h"
#include "capi/sized_struct.h"
#include "serving/offline_engine.h"
#include "serving/request_set.h"
#include "serving/version.h"

using tiercel::Expected;
using tiercel::Status;
using tiercel::StatusCode;
using tiercel::Unexpected;
using tiercel::serving::OfflineEngine;
using tiercel::serving::RequestNews;
using tiercel::serving::RequestSet;

struct tiercel_engine {
  std::shared_ptr<OfflineEngine> loaded;
};

struct tiercel_request {
  explicit tiercel_request(const tiercel_engine& engine)
      : loaded(engine.loaded), set(engine.loaded) {}

  struct Choice {
    std::string text;
    std::vector<int32_t> token_ids;
    std::vector<float> logprobs;
    std::string finish_reason;  // empty: it goes on
  };

  const std::shared_ptr<const OfflineEngine> loaded;
  RequestSet set;
  int64_t number = -1;
  std::mutex mutex;  // of what cancelling changes
  bool cancelled = false;
  bool ended = false;  // nothing more will be left in `set`
  // Of the last poll.
  RequestNews news;
  std::vector<Choice> choices;
};

namespace {

constexpr double kForever = 1e8;  // seconds

thread_local std::string last_error;

tiercel_status Failed(tiercel_status status, std::string message) {
  last_error = std::move(message);
  return status;
}

tiercel_status Failed(const Status& status) {
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kUnimplemented:
      return Failed(TIERCEL_INVALID_ARGUMENT, status.message());
    case StatusCode::kCancelled:
      return Failed(TIERCEL_CANCELLED, status.message());
    default:
      return Failed(TIERCEL_FAILED, status.message());
  }
}

tiercel_status Failed(const tiercel::api::ApiError& error) {
  return Failed(error.http_status < 500 ? TIERCEL_INVALID_ARGUMENT : TIERCEL_FAILED, error.message);
}

tiercel_status Cancelled() { return Failed(TIERCEL_CANCELLED, "the request has been cancelled"); }

// What `work` returns, or the status of what it throws.
template <typename Work>
tiercel_status Guarded(Work&& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    return Failed(TIERCEL_FAILED, error.what());
  }
}

Expected<std::vector<std::string>> Words(const tiercel_engine_options& options) {
  if (options.model == nullptr)
    return Unexpected(tiercel::InvalidArgument("tiercel_engine_options.model: found NULL"));
  std::vector<std::string> words = {fmt::format("--model={}", options.model)};
  for (size_t i = 0; i < options.num_arguments; ++i) {
    if (options.arguments == nullptr || options.arguments[i] == nullptr) {
      return Unexpected(tiercel::InvalidArgument(
          "tiercel_engine_options.arguments[{}]: found NULL, expected {} words", i,
          options.num_arguments));
    }
    words.emplace_back(options.arguments[i]);
  }
  // Statistics in a log are a server's; a program that wants them reads the output.
  const std::string_view quiet = "--disable-log-stats";
  if (std::find(words.begin(), words.end(), quiet) == words.end()) words.emplace_back(quiet);
  return words;
}

// The body with the prompt that was given beside it.
Expected<std::string> Body(const tiercel_request_options& options) {
  const std::string_view given = options.body != nullptr ? options.body : "{}";
  if (options.prompt == nullptr && options.prompt_token_ids == nullptr) return std::string(given);
  if (options.prompt != nullptr && options.prompt_token_ids != nullptr) {
    return Unexpected(
        tiercel::InvalidArgument("tiercel_request_options: found prompt and prompt_token_ids, "
                                 "expected at most one of them"));
  }
  ASSIGN_OR_RETURN(tiercel::api::Json body, tiercel::api::ParseJson(given));
  if (body.object() == nullptr) {
    return Unexpected(
        tiercel::InvalidArgument("tiercel_request_options.body: expected a JSON object"));
  }
  if (options.prompt != nullptr) {
    body.Set("prompt", tiercel::api::Json(options.prompt));
  } else {
    tiercel::api::Json::Array ids;
    for (size_t i = 0; i < options.num_prompt_token_ids; ++i) {
      ids.emplace_back(static_cast<int64_t>(options.prompt_token_ids[i]));
    }
    body.Set("prompt", tiercel::api::Json(std::move(ids)));
  }
  return body.Dump();
}

tiercel_request::Choice ToChoice(tiercel::serving::ChoiceNews news) {
  tiercel_request::Choice choice;
  choice.text = std::move(news.text);
  for (const auto& token : news.tokens) {
    choice.token_ids.push_back(token.token);
    if (!token.top.empty()) choice.logprobs.push_back(token.top[0].logprob);
  }
  if (news.finish) choice.finish_reason = tiercel::api::FinishName(news.finish->end);
  return choice;
}

tiercel_status Show(const tiercel_request& request, tiercel_output* output) {
  const RequestNews& news = request.news;
  tiercel_output shown{};
  shown.done = news.done ? 1 : 0;
  shown.num_choices = request.choices.size();
  shown.prompt_token_ids = news.prompt_token_ids.data();
  shown.num_prompt_token_ids = news.prompt_token_ids.size();
  shown.cached_tokens = news.prompt_info != nullptr ? news.prompt_info->cached_tokens : -1;
  if (!news.body.empty()) {
    shown.body = news.body.c_str();
    shown.body_size = news.body.size();
  }
  const Status status = tiercel::capi::WriteStruct(shown, output, "tiercel_output");
  return status.ok() ? TIERCEL_OK : Failed(status);
}

tiercel_status Take(tiercel_request* request, tiercel_output* output) {
  {
    const std::lock_guard lock(request->mutex);
    if (request->cancelled) return Cancelled();
    auto news = request->set.Take(request->number);
    request->ended = !news || news->done;
    if (!news) return Failed(news.error());
    request->news = std::move(*news);
  }
  request->choices.clear();
  for (auto& choice : request->news.choices)
    request->choices.push_back(ToChoice(std::move(choice)));
  return Show(*request, output);
}

tiercel_status Poll(tiercel_request* request, double seconds, tiercel_output* output) {
  bool over = false;
  {
    const std::lock_guard lock(request->mutex);
    over = request->cancelled || request->ended;
  }
  if (!over) request->set.Wait(seconds < 0 ? kForever : std::min(seconds, kForever));
  return Take(request, output);
}

tiercel_status Create(tiercel_engine* engine, const tiercel_request_options* given,
                      tiercel_request** out) {
  if (engine == nullptr) return Failed(TIERCEL_INVALID_ARGUMENT, "tiercel_engine: found NULL");
  if (out == nullptr)
    return Failed(TIERCEL_INVALID_ARGUMENT, "request: found NULL, expected where it is to be put");
  *out = nullptr;
  const auto options = tiercel::capi::ReadStruct(given, "tiercel_request_options");
  if (!options) return Failed(options.error());
  const auto body = Body(*options);
  if (!body) return Failed(body.error());
  auto request = std::make_unique<tiercel_request>(*engine);
  const auto number = request->set.Submit(
      options->endpoint != nullptr ? options->endpoint : "/v1/completions", *body);
  if (!number) return Failed(number.error());
  request->number = *number;
  *out = request.release();
  return TIERCEL_OK;
}

tiercel_status Wait(tiercel_request* request, tiercel_output* output) {
  const auto running = request->set.Run(kForever);
  if (!running) return Failed(running.error());
  return Take(request, output);
}

}  // namespace

uint32_t tiercel_abi_version(void) { return TIERCEL_ABI_VERSION; }

const char* tiercel_version(void) { return TIERCEL_VERSION; }

const char* tiercel_last_error(void) { return last_error.c_str(); }

tiercel_status tiercel_engine_create(const tiercel_engine_options* given, tiercel_engine** engine) {
  return Guarded([&] {
    if (engine == nullptr)
      return Failed(TIERCEL_INVALID_ARGUMENT, "engine: found NULL, expected where it is to be put");
    *engine = nullptr;
    const auto options = tiercel::capi::ReadStruct(given, "tiercel_engine_options");
    if (!options) return Failed(options.error());
    const auto words = Words(*options);
    if (!words) return Failed(words.error());
    auto program = options->program != nullptr ? Expected<std::string>(options->program)
                                               : tiercel::capi::FindProgram();
    if (!program) return Failed(program.error());
    auto loaded = OfflineEngine::Load(*words, *program, tiercel::ReadEnviron(), nullptr);
    if (!loaded) return Failed(loaded.error());
    *engine = new tiercel_engine{std::move(*loaded)};
    return TIERCEL_OK;
  });
}

void tiercel_engine_destroy(tiercel_engine* engine) { delete engine; }

tiercel_status tiercel_request_create(tiercel_engine* engine,
                                      const tiercel_request_options* options,
                                      tiercel_request** request) {
  return Guarded([&] { return Create(engine, options, request); });
}

void tiercel_request_destroy(tiercel_request* request) { delete request; }

tiercel_status tiercel_request_poll(tiercel_request* request, double seconds,
                                    tiercel_output* output) {
  return Guarded([&] { return Poll(request, seconds, output); });
}

tiercel_status tiercel_request_choice(tiercel_request* request, size_t index,
                                      tiercel_choice* choice) {
  return Guarded([&] {
    if (index >= request->choices.size()) {
      return Failed(TIERCEL_INVALID_ARGUMENT, fmt::format("choice: found {}, expected less than {}",
                                                          index, request->choices.size()));
    }
    const tiercel_request::Choice& news = request->choices[index];
    tiercel_choice shown{};
    shown.text = news.text.c_str();
    shown.text_size = news.text.size();
    shown.token_ids = news.token_ids.data();
    shown.num_token_ids = news.token_ids.size();
    shown.logprobs = news.logprobs.empty() ? nullptr : news.logprobs.data();
    shown.finish_reason = news.finish_reason.empty() ? nullptr : news.finish_reason.c_str();
    const Status status = tiercel::capi::WriteStruct(shown, choice, "tiercel_choice");
    return status.ok() ? TIERCEL_OK : Failed(status);
  });
}

int tiercel_request_fd(tiercel_request* request) { return request->set.EventFd(); }

void tiercel_request_cancel(tiercel_request* request) {
  {
    const std::lock_guard lock(request->mutex);
    request->cancelled = true;
    request->set.Drop(request->number);
  }
  request->set.Wake();
}

tiercel_status tiercel_request_stream(tiercel_request* request, tiercel_output_callback callback,
                                      void* user) {
  tiercel_output output{};
  output.struct_size = sizeof(output);
  while (output.done == 0) {
    const tiercel_status status = tiercel_request_poll(request, -1, &output);
    if (status != TIERCEL_OK) return status;
    if (callback(user, request, &output) != 0) {
      tiercel_request_cancel(request);
      return Cancelled();
    }
  }
  return TIERCEL_OK;
}

tiercel_status tiercel_request_wait(tiercel_request* request, tiercel_output* output) {
  return Guarded([&] { return Wait(request, output); });
}

tiercel_status tiercel_generate(tiercel_engine* engine, const tiercel_request_options* options,
                                tiercel_request** request, tiercel_output* output) {
  return Guarded([&] {
    tiercel_status status = Create(engine, options, request);
    if (status != TIERCEL_OK) return status;
    status = Wait(*request, output);
    if (status != TIERCEL_OK) {
      delete *request;
      *request = nullptr;
    }
    return status;
  });
}
