// Status and Expected: how a fallible function tells its caller what went wrong.
// Input and environment faults travel as values; only broken invariants abort (base/check.h).
#pragma once

#include <fmt/format.h>

#include <ostream>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace tiercel {

enum class StatusCode {
  kOk,
  kInvalidArgument,     // the user's fault: a flag, a field of a request, a malformed file
  kNotFound,            // a file, a model name or a route that does not exist
  kResourceExhausted,   // memory, queue or disk limits
  kFailedPrecondition,  // the environment cannot do what was asked (ISA, permissions)
  kUnavailable,         // shutting down, or the other side is gone
  kUnimplemented,       // understood, and not offered
  kCancelled,
  kInternal,            // our fault, reported instead of aborting where a caller can go on
};

// A code and one line of text: names the field or the file, what was found, what was expected
// and what to do. No trailing newline or full stop is added. What was found may come from a hostile
// file or request: control characters are written as escapes ("\n", "\x1b"), so that a message
// stays one line and cannot steer a terminal.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message)
      : code_(code), message_(EscapeControls(std::move(message))) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // The name of the request field or flag at fault, empty when there is none.
  const std::string& param() const { return param_; }
  Status WithParam(std::string param) && {
    param_ = std::move(param);
    return std::move(*this);
  }

  friend bool operator==(const Status&, const Status&) = default;
  friend std::ostream& operator<<(std::ostream& os, const Status& s) {
    return os << (s.ok() ? "ok" : s.message_);
  }

 private:
  static std::string EscapeControls(std::string message);

  StatusCode code_ = StatusCode::kOk;
  std::string message_;
  std::string param_;
};

template <typename T>
using Expected = tl::expected<T, Status>;

inline Status OkStatus() { return {}; }

// InvalidArgument("{}: found {}, expected {}", file, found, expected) and its siblings.
#define TIERCEL_DEFINE_STATUS(Name, kCode)                                      \
  template <typename... Args>                                                   \
  Status Name(fmt::format_string<Args...> format, Args&&... args) {             \
    return Status(StatusCode::kCode, fmt::format(format, std::forward<Args>(args)...)); \
  }
TIERCEL_DEFINE_STATUS(InvalidArgument, kInvalidArgument)
TIERCEL_DEFINE_STATUS(NotFound, kNotFound)
TIERCEL_DEFINE_STATUS(ResourceExhausted, kResourceExhausted)
TIERCEL_DEFINE_STATUS(FailedPrecondition, kFailedPrecondition)
TIERCEL_DEFINE_STATUS(Unavailable, kUnavailable)
TIERCEL_DEFINE_STATUS(Unimplemented, kUnimplemented)
TIERCEL_DEFINE_STATUS(Internal, kInternal)
#undef TIERCEL_DEFINE_STATUS

inline tl::unexpected<Status> Unexpected(Status status) {
  return tl::unexpected<Status>(std::move(status));
}

}  // namespace tiercel

#define TIERCEL_CONCAT_INNER(a, b) a##b
#define TIERCEL_CONCAT(a, b) TIERCEL_CONCAT_INNER(a, b)

// Returns the Status of `expr` from the enclosing function (of type Status or Expected<T>).
#define RETURN_IF_ERROR(expr)                                                              \
  do {                                                                                     \
    if (::tiercel::Status status_ = (expr); !status_.ok())                                 \
      return ::tiercel::StatusReturn{std::move(status_)};                                  \
  } while (false)

// Declares or assigns `lhs` from an Expected<T>, or returns its Status.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL(TIERCEL_CONCAT(expected_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr)                                       \
  auto tmp = (expr);                                                                \
  if (!tmp) return ::tiercel::StatusReturn{std::move(tmp).error()};                 \
  lhs = std::move(*tmp)

namespace tiercel {
// Converts to the return type of either kind of fallible function.
struct StatusReturn {
  Status status;
  operator Status() && { return std::move(status); }  // NOLINT: implicit by design
  template <typename T>
  operator Expected<T>() && {  // NOLINT
    return tl::unexpected<Status>(std::move(status));
  }
};
}  // namespace tiercel
