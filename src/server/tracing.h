// What a server tells of its requests to who keeps traces of them. Who that is, the server does not know.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tiercel::server {

// Where a request stands in its client's trace, by W3C's Trace Context.
struct TraceContext {
  std::string trace_id;       // 32 hex digits in small letters; empty: it begins a trace
  std::string parent_span;    // 16; empty without trace_id
  std::string trace_state;    // as the client sent it, at most 512 bytes
  bool sampled = true;        // false: the client's trace is not recorded

  // Headers that are not valid count as not sent, as the standard says.
  static TraceContext Parse(std::string_view traceparent, std::string_view tracestate);
};

// One request to the engine, from its arrival to its end.
struct RequestSpan {
  struct Params {
    int64_t max_tokens = 0;
    double temperature = 0, top_p = 0;
    int64_t n = 1;
  };
  // Of a prompt that was computed; seconds.
  struct Times {
    double in_queue = 0, to_first_token = 0, prefill = 0, decode = 0, inference = 0;
  };

  TraceContext context;
  std::string request_id;
  int64_t start_ns = 0;  // since 1970
  double seconds = 0;    // from there to the end
  int64_t prompt_tokens = 0, completion_tokens = 0;
  std::optional<Params> params;  // of a request that samples
  std::optional<Times> times;
  std::optional<std::string> error;  // why it has failed
};

class SpanSink {
 public:
  struct Counts {
    uint64_t exported = 0, dropped = 0;
  };

  virtual ~SpanSink() = default;
  // Any thread. Waits for nothing; what there is no room for is dropped.
  virtual void Push(RequestSpan span) = 0;
  virtual Counts counts() const = 0;
};

}  // namespace tiercel::server
