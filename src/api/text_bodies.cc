#include "api/text_bodies.h"

#include "api/json_writer.h"
#include "api/names.h"
#include "api/prompt_text.h"
#include "api/render_chat.h"

namespace tiercel::api {

Result<std::string> TokenizeBody(std::string_view body, const ModelInfo& model,
                                 const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(TokenizeRequest request, ParseTokenizeRequest(body, options));
  API_RETURN_IF_ERROR(CheckModel(request.model, model));
  std::string text;
  if (request.chat) {
    API_ASSIGN_OR_RETURN(text, RenderChat(*request.chat, model));
  } else {
    text = std::move(*request.prompt);
  }
  API_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                       EncodeText(text, request.add_special_tokens, model));
  std::string out = R"({"count":)";
  AppendJsonInt(&out, static_cast<int64_t>(ids.size()));
  out += R"(,"max_model_len":)";
  AppendJsonInt(&out, model.max_model_len);
  out += R"(,"tokens":)";
  AppendJsonInts(&out, ids);
  out += R"(,"token_strs":)";
  if (request.return_token_strs) {
    out += '[';
    for (size_t i = 0; i < ids.size(); ++i) {
      if (i > 0) out += ',';
      AppendJsonString(&out, model.tokenizer->TokenString(ids[i]));
    }
    out += "]}";
  } else {
    out += "null}";
  }
  return out;
}

Result<std::string> DetokenizeBody(std::string_view body, const ModelInfo& model) {
  API_ASSIGN_OR_RETURN(const DetokenizeRequest request, ParseDetokenizeRequest(body));
  API_RETURN_IF_ERROR(CheckModel(request.model, model));
  const auto num_tokens = static_cast<int64_t>(request.tokens.size());
  if (num_tokens > model.max_model_len) return Fail(ContextOverflow(num_tokens, false, model));
  for (const int32_t id : request.tokens) {
    if (id < 0) {
      return Fail(BadParameter("tokens must not be negative.", "tokens", std::to_string(id)));
    }
  }
  std::string out = R"({"prompt":)";
  AppendJsonString(&out, model.tokenizer->Decode(request.tokens, false));
  out += '}';
  return out;
}

std::string ModelsBody(const ModelInfo& model) {
  std::string out = R"({"object":"list","data":[)";
  for (size_t i = 0; i < model.served_names.size(); ++i) {
    if (i > 0) out += ',';
    out += R"({"id":)";
    AppendJsonString(&out, model.served_names[i]);
    out += fmt::format(R"(,"object":"model","created":{},"owned_by":"vllm","root":)",
                       model.created);
    AppendJsonString(&out, model.root);
    out += fmt::format(R"(,"parent":null,"max_model_len":{},"permission":[{{)", model.max_model_len);
    out += fmt::format(
        R"("id":"modelperm-{}","object":"model_permission","created":{},)"
        R"("allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,)"
        R"("allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,)"
        R"("organization":"*","group":null,"is_blocking":false}}]}})",
        RandomId(), model.created);
  }
  out += "]}";
  return out;
}

}  // namespace tiercel::api
