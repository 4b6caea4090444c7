#include "server/request_trace.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/clock.h"

namespace tiercel::server {
namespace {

// Ids of bodies may be of any length.
constexpr size_t kMaxTextBytes = 256;

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
}

bool IsId(std::string_view text) {
  return IsHex(text) && text.find_first_not_of('0') != std::string_view::npos;
}

bool IsPlain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

int64_t UnixNanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

// version "-" trace-id "-" parent-id "-" trace-flags; later versions may go on behind another "-".
TraceContext TraceContext::Parse(std::string_view traceparent, std::string_view tracestate) {
  constexpr size_t kLength = 2 + 1 + 32 + 1 + 16 + 1 + 2;
  constexpr size_t kMaxStateBytes = 512;
  TraceContext context;
  const std::string_view text = traceparent;
  if (text.size() < kLength || text[2] != '-' || text[35] != '-' || text[52] != '-') return context;
  const std::string_view version = text.substr(0, 2), trace = text.substr(3, 32);
  const std::string_view parent = text.substr(36, 16), flags = text.substr(53, 2);
  const bool fits = version == "00" ? text.size() == kLength
                                    : text.size() == kLength || text[kLength] == '-';
  if (!fits || !IsHex(version) || version == "ff" || !IsId(trace) || !IsId(parent) ||
      !IsHex(flags)) {
    return context;
  }
  context.trace_id = trace;
  context.parent_span = parent;
  constexpr std::string_view kOdd = "13579bdf";  // the lowest bit: sampled
  context.sampled = kOdd.find(flags[1]) != std::string_view::npos;
  if (tracestate.size() <= kMaxStateBytes && IsPlain(tracestate)) context.trace_state = tracestate;
  return context;
}

RequestTrace::RequestTrace(SpanSink* sink, const HttpRequest& request,
                           std::string_view request_id) noexcept
    : sink_(sink) {
  if (sink_ == nullptr) return;
  try {
    context_ = TraceContext::Parse(request.Header("traceparent"), request.Header("tracestate"));
    body_.id = request_id.substr(0, kMaxTextBytes);
  } catch (const std::bad_alloc&) {
    sink_ = nullptr;
    return;
  }
  if (!context_.sampled) sink_ = nullptr;
  start_ns_ = UnixNanoseconds();
  start_ = SteadyClock().Now();
}

RequestTrace::RequestTrace(RequestTrace&& other) noexcept
    : sink_(std::exchange(other.sink_, nullptr)),
      context_(std::move(other.context_)),
      body_(std::move(other.body_)),
      prompts_(std::move(other.prompts_)),
      start_ns_(other.start_ns_),
      start_(other.start_) {}

void RequestTrace::AddPrompt(const engine::Request& request) noexcept {
  if (sink_ == nullptr) return;
  try {
    Prompt prompt{request.id.substr(0, kMaxTextBytes),
                  static_cast<int64_t>(request.prompt.size()), std::nullopt, false};
    if (request.params != nullptr) {
      prompt.params = {request.params->max_tokens, request.params->temperature,
                       request.params->top_p, request.params->n};
    }
    prompts_.push_back(std::move(prompt));
  } catch (const std::bad_alloc&) {
    sink_ = nullptr;
  }
}

RequestSpan RequestTrace::NewSpan(const Prompt& prompt, double seconds) const {
  RequestSpan span;
  span.context = context_;
  span.request_id = prompt.id;
  span.start_ns = start_ns_;
  span.seconds = seconds;
  span.prompt_tokens = prompt.num_tokens;
  span.params = prompt.params;
  return span;
}

void RequestTrace::Ended(size_t index, const api::Answer& answer) noexcept {
  if (sink_ == nullptr || index >= prompts_.size()) return;
  Prompt& prompt = prompts_[index];
  if (std::exchange(prompt.ended, true)) return;
  const double now = SteadyClock().Now();
  try {
    RequestSpan span = NewSpan(prompt, now - start_);
    const int n = answer.plan.n;
    for (int i = static_cast<int>(index) * n; i < (static_cast<int>(index) + 1) * n; ++i) {
      span.completion_tokens += answer.choice(i).completion_tokens();
      const auto& finish = answer.choice(i).finish();
      if (finish && finish->end == api::OutputEnd::kAbort) span.error = "The request was aborted.";
    }
    if (const api::PromptResult& result = answer.prompts[index]; result.known) {
      const engine::PromptTimes& times = result.info.times;
      span.times = {times.first_scheduled - times.submitted, times.computed - start_,
                    times.computed - times.first_scheduled, now - times.computed,
                    now - times.first_scheduled};
    }
    sink_->Push(std::move(span));
  } catch (const std::bad_alloc&) {
  }
}

void RequestTrace::Failed(std::string_view why) noexcept {
  if (sink_ == nullptr) return;
  const double seconds = SteadyClock().Now() - start_;
  try {
    if (prompts_.empty()) prompts_.push_back(std::move(body_));
    for (Prompt& prompt : prompts_) {
      if (std::exchange(prompt.ended, true)) continue;
      RequestSpan span = NewSpan(prompt, seconds);
      span.error = why.substr(0, kMaxTextBytes);
      sink_->Push(std::move(span));
    }
  } catch (const std::bad_alloc&) {
  }
}

}  // namespace tiercel::server
