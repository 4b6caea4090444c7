#include "api/errors.h"

#include <exception>
#include <new>

#include "api/json_writer.h"
#include "base/log.h"

namespace tiercel::api {

ApiError FromStatus(const Status& status) {
  ApiError error;
  error.message = status.message();
  if (!status.param().empty()) error.param = status.param();
  switch (status.code()) {
    case StatusCode::kOk:
    case StatusCode::kInvalidArgument:
      break;
    case StatusCode::kNotFound:
      error.http_status = 404;
      error.type = "NotFoundError";
      break;
    case StatusCode::kUnimplemented:
      error.type = "NotImplementedError";
      break;
    case StatusCode::kResourceExhausted:
    case StatusCode::kUnavailable:
    case StatusCode::kCancelled:
      error.http_status = 503;
      error.type = "ServiceUnavailableError";
      break;
    case StatusCode::kFailedPrecondition:
    case StatusCode::kInternal:
      error.http_status = 500;
      error.type = "InternalServerError";
      error.message = "The engine encountered an issue. See the server's log for the root cause.";
      error.param.reset();
      break;
  }
  return error;
}

ApiError FromException() {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return {503, "ServiceUnavailableError",
            "The server is out of memory for this request. Try again later, or with less.",
            std::nullopt};
  } catch (const std::exception& exception) {
    LOG_ERROR("a request failed: {}", exception.what());
  } catch (...) {
    LOG_ERROR("a request failed: unknown exception");
  }
  return FromStatus(Internal("an exception"));
}

ApiError BadParameter(std::string message, std::string param, std::string_view value) {
  message += fmt::format(" (parameter={}, value={})", param, value);
  return {400, "BadRequestError", std::move(message), std::move(param)};
}

ApiError BadRequest(std::string message, std::optional<std::string> param) {
  return {400, "BadRequestError", std::move(message), std::move(param)};
}

ApiError Fault(std::string_view path, std::string_view what) {
  return BadRequest(fmt::format("{}: {}", path, what), std::string(path));
}

ApiError NotOffered(std::string message, std::optional<std::string> param) {
  return {400, "NotImplementedError", std::move(message), std::move(param)};
}

namespace {

std::string_view AnthropicType(int http_status) {
  switch (http_status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503: return "overloaded_error";
    default: return http_status < 500 ? "invalid_request_error" : "api_error";
  }
}

}  // namespace

std::string ErrorBody(const ApiError& error, Protocol protocol) {
  if (protocol == Protocol::kMessages) {
    std::string out = R"({"type":"error","error":{"type":")";
    out.append(AnthropicType(error.http_status)).append(R"(","message":)");
    AppendJsonString(&out, error.message);
    return out += "}}";
  }
  std::string out = R"({"error":{"message":)";
  AppendJsonString(&out, error.message);
  out += R"(,"type":)";
  AppendJsonString(&out, error.type);
  out += R"(,"param":)";
  AppendJsonStringOrNull(&out, error.param);
  out += R"(,"code":)";
  AppendJsonInt(&out, error.http_status);
  out += "}}";
  return out;
}

}  // namespace tiercel::api
