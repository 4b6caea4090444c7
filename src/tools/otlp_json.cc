#include "tools/otlp_json.h"

#include <fmt/format.h>

#include "api/json_writer.h"
#include "serving/version.h"

namespace tiercel::tools {
namespace {

// What the protocol's enums say.
constexpr int kSpanKindServer = 2;
constexpr int kStatusError = 2;

// {"key":…,"value":{"stringValue":…}}, one after the other.
class AttributeList {
 public:
  explicit AttributeList(std::string* out) : out_(out) { *out_ += '['; }

  void String(std::string_view key, std::string_view value) {
    Begin(key);
    *out_ += R"("stringValue":)";
    api::AppendJsonString(out_, value);
    End();
  }
  // 64-bit integers are strings in the protocol's JSON.
  void Int(std::string_view key, int64_t value) {
    Begin(key);
    *out_ += fmt::format(R"("intValue":"{}")", value);
    End();
  }
  void Double(std::string_view key, double value) {
    Begin(key);
    *out_ += R"("doubleValue":)";
    api::AppendJsonDouble(out_, value);
    End();
  }
  void Close() { *out_ += ']'; }

 private:
  void Begin(std::string_view key) {
    if (!std::exchange(is_first_, false)) *out_ += ',';
    *out_ += R"({"key":)";
    api::AppendJsonString(out_, key);
    *out_ += R"(,"value":{)";
  }
  void End() { *out_ += "}}"; }

  std::string* out_;
  bool is_first_ = true;
};

void AppendAttributes(const server::RequestSpan& span, std::string* out) {
  AttributeList list(out);
  list.String("gen_ai.request.id", span.request_id);
  if (span.params) {
    list.Int("gen_ai.request.max_tokens", span.params->max_tokens);
    list.Double("gen_ai.request.temperature", span.params->temperature);
    list.Double("gen_ai.request.top_p", span.params->top_p);
    list.Int("gen_ai.request.n", span.params->n);
  }
  list.Int("gen_ai.usage.prompt_tokens", span.prompt_tokens);
  list.Int("gen_ai.usage.completion_tokens", span.completion_tokens);
  list.Double("gen_ai.latency.e2e", span.seconds);
  if (span.times) {
    list.Double("gen_ai.latency.time_in_queue", span.times->in_queue);
    list.Double("gen_ai.latency.time_to_first_token", span.times->to_first_token);
    list.Double("gen_ai.latency.time_in_model_prefill", span.times->prefill);
    list.Double("gen_ai.latency.time_in_model_decode", span.times->decode);
    list.Double("gen_ai.latency.time_in_model_inference", span.times->inference);
  }
  list.Close();
}

uint64_t NonZero(const std::function<uint64_t()>& random) {
  uint64_t number = 0;
  while (number == 0) number = random();
  return number;
}

void AppendSpan(const server::RequestSpan& span, const std::function<uint64_t()>& random,
                std::string* out) {
  const server::TraceContext& context = span.context;
  *out += context.trace_id.empty()
              ? fmt::format(R"({{"traceId":"{:016x}{:016x}")", random(), NonZero(random))
              : fmt::format(R"({{"traceId":"{}")", context.trace_id);
  *out += fmt::format(R"(,"spanId":"{:016x}")", NonZero(random));
  if (!context.parent_span.empty()) {
    *out += fmt::format(R"(,"parentSpanId":"{}")", context.parent_span);
  }
  if (!context.trace_state.empty()) {
    *out += R"(,"traceState":)";
    api::AppendJsonString(out, context.trace_state);
  }
  const auto end_ns = span.start_ns + static_cast<int64_t>(span.seconds * 1e9);
  *out += fmt::format(
      R"(,"name":"llm_request","kind":{},"startTimeUnixNano":"{}","endTimeUnixNano":"{}","attributes":)",
      kSpanKindServer, span.start_ns, end_ns);
  AppendAttributes(span, out);
  *out += R"(,"status":{)";
  if (span.error) {
    *out += fmt::format(R"("code":{},"message":)", kStatusError);
    api::AppendJsonString(out, *span.error);
  }
  *out += "}}";
}

}  // namespace

std::string OtlpTracesBody(const serving::OtlpTarget& target, std::span<const server::RequestSpan> spans,
                           const std::function<uint64_t()>& random) {
  std::string out = R"({"resourceSpans":[{"resource":{"attributes":)";
  AttributeList resource(&out);
  for (const auto& [name, value] : target.resource) resource.String(name, value);
  resource.Close();
  out += R"(},"scopeSpans":[{"scope":{"name":"vllm.llm_engine","version":)";
  api::AppendJsonString(&out, TIERCEL_VERSION);
  out += R"(},"spans":[)";
  for (size_t i = 0; i < spans.size(); ++i) {
    if (i > 0) out += ',';
    AppendSpan(spans[i], random, &out);
  }
  return out += "]}]}]}";
}

}  // namespace tiercel::tools
