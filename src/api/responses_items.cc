#include "api/responses_items.h"

#include <iterator>
#include <string>
#include <utility>

#include "api/bounds.h"
#include "api/json_reader.h"

namespace tiercel::api {

namespace {

ApiError InputFault(size_t index, std::string_view what) {
  return BadRequest(fmt::format("input.{}: {}", index, what), "input");
}

// The items of an input become messages: thought and calls belong to the assistant's message that they
// stand beside.
class InputReader {
 public:
  std::optional<ApiError> Read(Json& item, size_t index) {
    const std::string* given_type = item.FindString("type");
    const std::string type = given_type != nullptr ? *given_type : "message";
    if (type == "message") return ReadMessage(item, index);
    if (type == "reasoning") return ReadReasoning(item);
    if (type == "function_call") return ReadCall(item, index);
    if (type == "function_call_output") return ReadOutput(item, index);
    return InputFault(index, fmt::format("an item of type '{}' is not supported; offered: message, "
                                         "reasoning, function_call, function_call_output.",
                                         type.substr(0, 64)));
  }

  Json::Array Take() {
    CloseAssistant();
    return std::move(messages_);
  }

 private:
  std::optional<ApiError> ReadMessage(Json& item, size_t index) {
    const std::string* role = item.FindString("role");
    if (role == nullptr) return InputFault(index, "a message must have a `role`.");
    const Json* content = item.Find("content");
    if (!IsAbsent(content) && content->string() == nullptr && content->array() == nullptr) {
      return InputFault(index, "`content` must be a string or a list.");
    }
    if (*role != "assistant") {
      CloseAssistant();
      messages_.push_back(Json::Of({{"role", Json(*role)}, {"content", item.Take("content")}}));
      return std::nullopt;
    }
    if (!content_.is_null() || !calls_.empty()) CloseAssistant();
    content_ = item.Take("content");
    return std::nullopt;
  }

  // Its text, or what stands for it where the text is not told.
  std::optional<ApiError> ReadReasoning(const Json& item) {
    if (!content_.is_null() || !calls_.empty()) CloseAssistant();
    for (const char* key : {"content", "summary"}) {
      const Json* parts = item.Find(key);
      if (parts == nullptr || parts->array() == nullptr) continue;
      for (const Json& part : *parts->array()) {
        if (const std::string* text = part.FindString("text")) reasoning_ += *text;
      }
      if (!reasoning_.empty()) break;
    }
    return std::nullopt;
  }

  std::optional<ApiError> ReadCall(Json& item, size_t index) {
    if (item.FindString("name") == nullptr || item.FindString("arguments") == nullptr) {
      return InputFault(index, "a function_call must have a `name` and `arguments`.");
    }
    if (calls_.size() >= kMaxTools) return InputFault(index, "too many calls in one message.");
    calls_.push_back(
        Json::Of({{"id", item.Take("call_id")},
                  {"type", Json("function")},
                  {"function",
                   Json::Of({{"name", item.Take("name")}, {"arguments", item.Take("arguments")}})}}));
    return std::nullopt;
  }

  std::optional<ApiError> ReadOutput(Json& item, size_t index) {
    if (item.FindString("call_id") == nullptr) {
      return InputFault(index, "a function_call_output must have a `call_id`.");
    }
    CloseAssistant();
    messages_.push_back(Json::Of({{"role", Json("tool")},
                                   {"content", item.Take("output")},
                                   {"tool_call_id", item.Take("call_id")}}));
    return std::nullopt;
  }

  void CloseAssistant() {
    if (content_.is_null() && calls_.empty() && reasoning_.empty()) return;
    Json message = Json::Of({{"role", Json("assistant")}});
    message.Set("content", std::exchange(content_, Json()));
    if (!reasoning_.empty()) message.Set("reasoning", Json(std::exchange(reasoning_, {})));
    if (!calls_.empty()) message.Set("tool_calls", Json(std::exchange(calls_, {})));
    messages_.push_back(std::move(message));
  }

  Json::Array messages_;
  // Of the assistant's message that is being read.
  std::string reasoning_;
  Json content_;
  Json::Array calls_;
};

}  // namespace

ApiError NoSuchResponse(std::string_view id) {
  return {404, "invalid_request_error", fmt::format("Response with id '{}' not found.", id.substr(0, 256)),
          "response_id"};
}

std::optional<ApiError> PutConversationBefore(const KeptResponse& earlier, Json::Array* items) {
  Expected<Json> input = ParseJson(*earlier.input), body = ParseJson(earlier.body);
  if (!input || !body) {
    return BadRequest(fmt::format("The earlier response is too large to go on from: {}",
                                  (!input ? input : body).error().message()),
                      "previous_response_id");
  }
  Json::Array all = std::move(*input->array());
  Json output = body->Take("output");
  for (Json::Array* more : {output.array(), items}) {
    all.insert(all.end(), std::make_move_iterator(more->begin()), std::make_move_iterator(more->end()));
  }
  *items = std::move(all);
  return std::nullopt;
}

Result<Json::Array> MessagesOf(Json::Array items, size_t num_earlier) {
  if (items.size() > kMaxMessages) {
    return Fail(BadRequest(fmt::format("input: a conversation has at most {} items.", kMaxMessages), "input"));
  }
  InputReader reader;
  // Items of earlier responses were taken once.
  for (size_t i = 0; i < items.size(); ++i) API_RETURN_IF_ERROR(reader.Read(items[i], i - num_earlier));
  return reader.Take();
}

}  // namespace tiercel::api
