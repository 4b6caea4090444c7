#include "tools/span_exporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/loopback_server.h"
#include "server/request_trace.h"

namespace tiercel::tools {
namespace {

using server::RequestSpan;
using server::TraceContext;

SpanExporterOptions Fast() {
  SpanExporterOptions options;
  options.batch_delay_s = 0.01;
  options.first_wait_s = 0.01;
  options.timeout_s = 2;
  return options;
}

TEST(TraceContext, IsReadByTheStandard) {
  const std::string trace(32, 'a'), span(16, 'b');
  const auto parse = [](const std::string& text) { return TraceContext::Parse(text, ""); };
  EXPECT_EQ(parse("00-" + trace + "-" + span + "-01").trace_id, trace);
  EXPECT_EQ(parse("00-" + trace + "-" + span + "-01").parent_span, span);
  EXPECT_TRUE(parse("00-" + trace + "-" + span + "-03").sampled);
  EXPECT_FALSE(parse("00-" + trace + "-" + span + "-02").sampled);
  EXPECT_EQ(parse("01-" + trace + "-" + span + "-01-more").trace_id, trace);
  for (const std::string& bad :
       {std::string(), "00-" + trace + "-" + span, "00-" + trace + "-" + span + "-01-more",
        "ff-" + trace + "-" + span + "-01", "00-" + std::string(32, '0') + "-" + span + "-01",
        "00-" + trace + "-" + std::string(16, '0') + "-01", "00-" + std::string(32, 'A') + "-" + span + "-01",
        "00-" + trace + "-" + std::string(16, 'g') + "-01", "01-" + trace + "-" + span + "-01more",
        "00_" + trace + "-" + span + "-01", "0-" + trace + "-" + span + "-01-"}) {
    EXPECT_EQ(parse(bad).trace_id, "") << bad;
    EXPECT_TRUE(parse(bad).sampled) << bad;
  }
  EXPECT_EQ(TraceContext::Parse("00-" + trace + "-" + span + "-01", "a=b").trace_state, "a=b");
  EXPECT_EQ(TraceContext::Parse("00-" + trace + "-" + span + "-01", std::string(513, 'a')).trace_state, "");
  EXPECT_EQ(TraceContext::Parse("", "a=b").trace_state, "");
}

TEST(SpanExporter, TheEndSendsWhatIsQueued) {
  net::LoopbackServer collector([](const std::string&) { return net::Reply(200, "{}"); });
  {
    SpanExporterOptions options = Fast();
    options.batch_delay_s = 60;
    SpanExporter exporter({collector.url() + "/v1/traces", {{"api-key", "k"}}, {}}, {}, options);
    for (int i = 0; i < 3; ++i) exporter.Push({});
  }
  ASSERT_EQ(collector.requests().size(), 1u);
  EXPECT_THAT(collector.requests()[0], testing::HasSubstr("POST /v1/traces HTTP/1.1"));
  EXPECT_THAT(collector.requests()[0], testing::HasSubstr("api-key: k"));
}

TEST(SpanExporter, OnlyPassingStatusesAreTriedAgainAndNotForEver) {
  for (const auto& [status, tries] : {std::pair{503, 3}, {429, 3}, {400, 1}, {500, 1}}) {
    net::LoopbackServer collector([s = status](const std::string&) { return net::Reply(s, ""); });
    SpanExporter exporter({collector.url(), {}, {}}, {}, Fast());
    exporter.Push({});
    while (exporter.counts().dropped == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(std::ssize(collector.requests()), tries) << status;
    EXPECT_EQ(exporter.counts().dropped, 1u);
    EXPECT_EQ(exporter.counts().exported, 0u);
  }
}

// Every span is counted, as exported or as dropped, whatever the collector does.
TEST(SpanExporter, AFullQueueDropsAndCounts) {
  std::atomic<bool> open{false};
  net::LoopbackServer collector([&](const std::string&) {
    while (!open) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return net::Reply(200, "{}");
  });
  SpanExporterOptions options = Fast();
  options.max_queued = 8;
  options.max_batch = 4;
  SpanExporter exporter({collector.url(), {}, {}}, {}, options);
  for (int i = 0; i < 50; ++i) exporter.Push({});
  EXPECT_GE(exporter.counts().dropped, 50u - 8 - 4);
  open = true;
  while (exporter.counts().exported + exporter.counts().dropped < 50) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_GE(exporter.counts().exported, 8u);
}

// A collector that answers nothing does not hold the program's end.
TEST(SpanExporter, TheEndIsBounded) {
  std::atomic<bool> open{false};
  net::LoopbackServer collector([&](const std::string&) {
    while (!open) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return std::string();
  });
  SpanExporterOptions options = Fast();
  options.flush_s = 0.05;
  options.timeout_s = 600;
  {
    SpanExporter exporter({collector.url(), {}, {}}, {}, options);
    exporter.Push({});
  }
  open = true;
}

}  // namespace
}  // namespace tiercel::tools
