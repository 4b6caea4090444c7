#include "serving/offline_engine.h"

#include <mutex>
#include <utility>

#include "api/render_chat.h"
#include "api/text_bodies.h"
#include "base/log.h"
#include "serving/model_path.h"
#include "serving/serving_model.h"

namespace tiercel::serving {
namespace {

// A process has one log, whatever the number of its engines; the last one says how much it holds.
void StartLog(LogLevel level) {
  static std::once_flag once;
  std::call_once(once, [&] { InitLogging(level); });
  spdlog::set_level(level);
}

// What a server is asked by strangers and this by its own program: parameters that are given are the
// whole truth, a template may come with a conversation, tools are for the template to show, and the text
// stays as the model wrote it.
api::ApiOptions ForOwnRequests(api::ApiOptions options) {
  options.sampling_defaults = {};
  options.trust_request_chat_template = true;
  options.auto_tool_choice = false;
  options.exclude_tools_when_tool_choice_none = false;
  options.return_tokens_as_token_ids = false;
  return options;
}

}  // namespace

Expected<std::shared_ptr<OfflineEngine>> OfflineEngine::Load(const std::vector<std::string>& words,
                                                             const std::string& program,
                                                             const Environ& environ,
                                                             std::atomic<bool>* stop) {
  ASSIGN_OR_RETURN(const options::ParsedOptions parsed,
                   options::ParseOptions(options::ServeOptionTable(), words, 1));
  ASSIGN_OR_RETURN(ServeConfig config, MakeServeConfig(parsed, environ));
  if (config.data_parallel_size > 1) {
    return Unexpected(InvalidArgument(
        "data_parallel_size > 1 is not supported offline: use one process for each replica"));
  }
  config.program = program;
  StartLog(config.log_level);
  for (const std::string& warning : config.warnings) LOG_WARNING("{}", warning);

  std::shared_ptr<OfflineEngine> loaded(new OfflineEngine);
  ASSIGN_OR_RETURN(const std::string path, FindModel(config.model, config.hub, environ));
  ASSIGN_OR_RETURN(loaded->environments_, kernels::CreateEnvironments(config.environment));
  ASSIGN_OR_RETURN(server::ServingModel serving,
                   LoadServingModel(&config, path, environ, loaded->environments_, stop));
  loaded->model_ = server::MakeLoadedModel(std::move(serving), {config.model}, config.server.api);
  loaded->options_ = ForOwnRequests(loaded->model_->api);
  return loaded;
}

api::Result<api::PreparedRequest> OfflineEngine::Prepare(const api::Endpoint& endpoint,
                                                         std::string_view body) const {
  if (auto error = api::CheckOffered(endpoint, info())) return api::Fail(std::move(*error));
  API_ASSIGN_OR_RETURN(api::PreparedRequest prepared,
                       api::Guarded([&] { return endpoint.prepare(body, "", info(), options_); }));
  // The grammar knows by now whether the answer begins with thought; its text is not taken apart.
  for (api::PromptPlan& prompt : prepared.plan.prompts) prompt.thinks = std::nullopt;
  return prepared;
}

api::Result<std::string> OfflineEngine::Tokenize(std::string_view body) const {
  return api::Guarded([&] { return api::TokenizeBody(body, info(), options_); });
}

api::Result<std::string> OfflineEngine::Render(std::string_view body) const {
  return api::Guarded([&]() -> api::Result<std::string> {
    API_ASSIGN_OR_RETURN(const api::TokenizeRequest request, api::ParseTokenizeRequest(body, options_));
    if (!request.chat) return api::Fail(api::BadRequest("`messages` must be given.", "messages"));
    return api::RenderChat(*request.chat, info());
  });
}

}  // namespace tiercel::serving
