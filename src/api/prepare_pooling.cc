#include "api/prepare_pooling.h"

#include <utility>

#include "api/bounds.h"
#include "api/names.h"
#include "api/pooling_request.h"
#include "api/prompt_text.h"
#include "api/render_chat.h"

namespace tiercel::api {
namespace {

constexpr int64_t kNoOutput = 0;  // a prompt need not leave room for tokens

std::string_view IdPrefix(PoolingEndpoint endpoint) {
  switch (endpoint) {
    case PoolingEndpoint::kEmbeddings: return "embd-";
    case PoolingEndpoint::kPooling: return "pooling-";
    case PoolingEndpoint::kClassify: return "classify-";
    case PoolingEndpoint::kScore: return "score-";
    case PoolingEndpoint::kRerank: return "rerank-";
  }
  return "";
}

ChatInput PairInput(std::string_view query, std::string_view document) {
  ChatInput chat;
  chat.messages.push_back(Json::Of({{"role", "query"}, {"content", Json(query)}}));
  chat.messages.push_back(Json::Of({{"role", "document"}, {"content", Json(document)}}));
  chat.add_generation_prompt = false;
  return chat;
}

class Preparer {
 public:
  Preparer(PoolingRequest request, std::string_view request_id, const ModelInfo& model)
      : request_(std::move(request)), model_(model), pooling_(std::make_shared<PoolingPlan>()),
        params_(std::make_shared<engine::PoolingParams>(request_.params)) {
    pooling_->endpoint = request_.endpoint;
    pooling_->encoding = request_.encoding;
    pooling_->every_token = request_.params.every_token();
    if (request_.endpoint == PoolingEndpoint::kClassify) pooling_->labels = info().labels;
    ResponsePlan& plan = prepared_.plan;
    plan.protocol = Protocol::kPooling;
    plan.created = UnixSeconds();
    plan.model = model.served_names.at(0);
    plan.tokenizer = model.tokenizer;
    plan.id = AnswerId(IdPrefix(request_.endpoint), request_id, request_.request_id);
  }

  Result<PreparedRequest> Prepare() {
    if (request_.chat) {
      API_ASSIGN_OR_RETURN(std::string text, RenderChat(*request_.chat, model_));
      API_RETURN_IF_ERROR(Add(std::move(text)));
    }
    for (PromptInput& prompt : request_.prompts) API_RETURN_IF_ERROR(Add(std::move(prompt)));
    if (!request_.second_texts.empty()) API_RETURN_IF_ERROR(AddTexts());
    prepared_.plan.pooling = std::move(pooling_);
    return std::move(prepared_);
  }

 private:
  const PoolingInfo& info() const { return *model_.pooling; }

  std::optional<ApiError> AddTexts() {
    std::optional<ApiError> error = info().classifies ? AddPairs() : AddVectors();
    if (error) return error;
    if (request_.endpoint == PoolingEndpoint::kRerank) {
      pooling_->documents = std::move(request_.second_texts);
      pooling_->top_n = request_.top_n;
    }
    return std::nullopt;
  }

  // Vectors of all texts, to be compared when they are there.
  std::optional<ApiError> AddVectors() {
    pooling_->num_first_texts = request_.first_texts.size();
    for (std::string& text : request_.first_texts) {
      if (auto error = Add(std::move(text))) return error;
    }
    for (const std::string& text : request_.second_texts) {
      if (auto error = Add(text)) return error;
    }
    return std::nullopt;
  }

  // A prompt of both texts: what the template makes of them, or one behind the other.
  std::optional<ApiError> AddPairs() {
    const bool one_for_all = request_.first_texts.size() == 1;
    for (size_t i = 0; i < request_.second_texts.size(); ++i) {
      const std::string& first = request_.first_texts[one_for_all ? 0 : i];
      const std::string& second = request_.second_texts[i];
      if (info().has_score_template) {
        Result<std::string> text = RenderChat(PairInput(first, second), model_);
        if (!text) return std::move(text).error();
        if (auto error = Add(std::move(*text))) return error;
        continue;
      }
      Result<std::vector<int32_t>> ids = EncodeText(first, request_.add_special_tokens, model_);
      if (!ids) return std::move(ids).error();
      const Result<std::vector<int32_t>> more = EncodeText(second, false, model_);
      if (!more) return more.error();
      ids->insert(ids->end(), more->begin(), more->end());
      if (auto error = Add(std::move(*ids))) return error;
    }
    return std::nullopt;
  }

  std::optional<ApiError> Add(PromptInput input) {
    Result<std::vector<int32_t>> ids = PromptIds(std::move(input), request_, kNoOutput, model_);
    if (!ids) return std::move(ids).error();
    const int64_t width = params_->classifies()      ? std::ssize(info().labels)
                          : params_->dimensions > 0 ? params_->dimensions
                                                    : info().hidden_size;
    num_values_ += width * (params_->every_token() ? std::ssize(*ids) : 1);
    if (num_values_ > kMaxPooledValues) {
      return BadRequest(fmt::format("The answer would have more than {} values. Send fewer or shorter "
                                    "inputs.",
                                    kMaxPooledValues),
                        "input");
    }
    prepared_.Add(request_, std::move(*ids)).pooling = params_;
    return std::nullopt;
  }

  PoolingRequest request_;
  const ModelInfo& model_;
  std::shared_ptr<PoolingPlan> pooling_;
  const std::shared_ptr<const engine::PoolingParams> params_;
  PreparedRequest prepared_;
  int64_t num_values_ = 0;
};

}  // namespace

Result<PreparedRequest> PreparePooling(PoolingEndpoint endpoint, std::string_view body,
                                       std::string_view request_id, const ModelInfo& model,
                                       const ApiOptions& options) {
  API_ASSIGN_OR_RETURN(Json json, ParseBody(body));
  API_ASSIGN_OR_RETURN(PoolingRequest request,
                       ReadPoolingRequest(std::move(json), endpoint, model, options));
  API_RETURN_IF_ERROR(CheckModel(request.model, model));
  return Preparer(std::move(request), request_id, model).Prepare();
}

bool HasScoreTemplate(const ModelInfo& model) {
  constexpr std::string_view kQuery = "SOME_QUERY", kDocument = "SOME_DOCUMENT";
  if (model.chat_template == nullptr) return false;
  const Result<std::string> text = RenderChat(PairInput(kQuery, kDocument), model);
  return text && text->find(kQuery) != std::string::npos &&
         text->find(kDocument) != std::string::npos;
}

}  // namespace tiercel::api
