// ApiError: what a client is told, as vLLM words it: {"error":{message,type,param,code}}.
#pragma once

#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "api/protocol.h"
#include "base/status.h"

namespace tiercel::api {

struct ApiError {
  int http_status = 400;
  std::string type = "BadRequestError";
  std::string message;
  std::optional<std::string> param;
};

template <typename T>
using Result = tl::expected<T, ApiError>;

// The status and type of each code: user faults and what is not offered 400 (clients retry a 5xx),
// unknown names 404, full or stopping 503. kInternal tells the client nothing of its text; the
// caller logs it.
ApiError FromStatus(const Status& status);

// What a client is told of the exception that is being handled: 503 for want of memory, which is
// free again with the request that wanted it, else 500 without its text, which goes to the log.
ApiError FromException();

// A 400 that names its parameter: "…text… (parameter=p, value=v)".
ApiError BadParameter(std::string message, std::string param, std::string_view value);
ApiError BadRequest(std::string message, std::optional<std::string> param = std::nullopt);
// A 400 about a place in the body, "tools.0.name": "…place…: …what…".
ApiError Fault(std::string_view path, std::string_view what);
ApiError NotOffered(std::string message, std::optional<std::string> param = std::nullopt);

// In the words of `protocol`: for Messages the types are Anthropic's.
std::string ErrorBody(const ApiError& error, Protocol protocol = Protocol::kChat);

inline tl::unexpected<ApiError> Fail(ApiError error) {
  return tl::unexpected<ApiError>(std::move(error));
}

// What `work` returns, or the error of what it throws. Nothing of a request outlives it.
template <typename Work>
auto Guarded(Work&& work) -> decltype(work()) {
  try {
    return work();
  } catch (...) {
    return Fail(FromException());
  }
}

}  // namespace tiercel::api

// Declares or assigns `lhs` from a Result<T>, or returns its error from the enclosing function.
#define API_ASSIGN_OR_RETURN(lhs, expr) \
  API_ASSIGN_OR_RETURN_IMPL(TIERCEL_CONCAT(result_, __LINE__), lhs, expr)
#define API_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr)                    \
  auto tmp = (expr);                                                 \
  if (!tmp) return ::tiercel::api::Fail(std::move(tmp).error());     \
  lhs = std::move(*tmp)

// For functions that return std::optional<ApiError> (no value: fine).
#define API_RETURN_IF_ERROR(expr) \
  do {                            \
    if (auto error_ = (expr)) return ::tiercel::api::Fail(std::move(*error_)); \
  } while (false)
