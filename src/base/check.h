// CHECK: a broken invariant is our fault; print the values and abort. Never for input.
#pragma once

#include <fmt/format.h>

namespace tiercel {
[[noreturn, gnu::cold]] void CheckFailed(const char* file, int line, const char* expression,
                                         const std::string& detail);
}  // namespace tiercel

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) [[unlikely]]                                              \
      ::tiercel::CheckFailed(__FILE__, __LINE__, #condition, {});               \
  } while (false)

// CHECK_MSG(n <= capacity, "n={} capacity={}", n, capacity)
#define CHECK_MSG(condition, ...)                                                        \
  do {                                                                                   \
    if (!(condition)) [[unlikely]]                                                       \
      ::tiercel::CheckFailed(__FILE__, __LINE__, #condition, fmt::format(__VA_ARGS__));  \
  } while (false)

#define TIERCEL_CHECK_OP(a, op, b) CHECK_MSG((a)op(b), "{} vs {}", (a), (b))
#define CHECK_EQ(a, b) TIERCEL_CHECK_OP(a, ==, b)
#define CHECK_NE(a, b) TIERCEL_CHECK_OP(a, !=, b)
#define CHECK_LE(a, b) TIERCEL_CHECK_OP(a, <=, b)
#define CHECK_LT(a, b) TIERCEL_CHECK_OP(a, <, b)
#define CHECK_GE(a, b) TIERCEL_CHECK_OP(a, >=, b)
#define CHECK_GT(a, b) TIERCEL_CHECK_OP(a, >, b)
