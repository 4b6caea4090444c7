// What a TemplatePool and its workers say to each other, and the bounds of one rendering.
//
// Over a stream socket the worker sends kReady whenever it waits for a job; the pool sends a JobHead
// and the job's two texts; the worker answers with an AnswerHead and a text. Both ends are the same
// build, so the heads travel as they lie in memory.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace tiercel::text {

// The job's text: a template's source, and the values as a JSON object.
struct TemplateJob {
  enum class Kind : uint64_t { kCompile, kRender };
  Kind kind = Kind::kCompile;
  std::string_view source;
  std::string_view values;

  size_t bytes() const { return source.size() + values.size(); }
};

struct JobHead {
  TemplateJob::Kind kind;
  uint64_t source_bytes;
  uint64_t values_bytes;
};

struct AnswerHead {
  uint64_t is_error;  // the text says what is wrong with the template
  uint64_t text_bytes;
};

inline constexpr char kReady = 'r';

// Bounds of one job, by the bytes of its texts (the largest request body is 64 MiB). For each byte of
// JSON a list of digits takes 24 bytes of memory as it grows, a list of small objects about twice as
// many. Seconds are of the processor's time: a neighbor's load does not count.
inline constexpr size_t kTemplateHeapBytes = size_t{64} << 20;
inline constexpr size_t kTemplateHeapPerByte = 48;
inline constexpr size_t kTemplateTextBytes = size_t{16} << 20;
inline constexpr size_t kTemplateTextPerByte = 4;
inline constexpr double kTemplateSeconds = 3;
inline constexpr double kTemplateSecondsPerByte = 1.0 / (16 << 20);

constexpr size_t MaxHeapBytes(size_t job_bytes) {
  return kTemplateHeapBytes + job_bytes * kTemplateHeapPerByte;
}
constexpr size_t MaxTextBytes(size_t job_bytes) {
  return kTemplateTextBytes + job_bytes * kTemplateTextPerByte;
}
constexpr double MaxSeconds(size_t job_bytes) {
  return kTemplateSeconds + static_cast<double>(job_bytes) * kTemplateSecondsPerByte;
}

// All of it or false: the other side is gone, or the socket's timeout is over. No SIGPIPE.
bool SendAll(int fd, std::string_view bytes);
bool ReceiveAll(int fd, std::span<char> bytes);

template <typename T>
bool SendValue(int fd, const T& value) {
  return SendAll(fd, {reinterpret_cast<const char*>(&value), sizeof(T)});
}
template <typename T>
bool ReceiveValue(int fd, T* value) {
  return ReceiveAll(fd, {reinterpret_cast<char*>(value), sizeof(T)});
}

}  // namespace tiercel::text
