#include "bench/pareto.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/json_reader.h"

namespace tiercel::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const ParetoKeys kKeys{"max_concurrency", "", {"max_concurrency", "gpu_count"}};

Pareto Find(std::string_view json, const ParetoKeys& keys = kKeys) {
  auto pareto = FindPareto(keys, *api::ParseJson(json)->array());
  EXPECT_TRUE(pareto) << pareto.error().message();
  return pareto ? *pareto : Pareto{};
}

TEST(Pareto, NoRunOfTheFrontierIsWorseInBoth) {
  // For one user and one device: (10, 10), (8, 16), (5, 40), (4, 32), (9, 9).
  const Pareto pareto = Find(R"([{"output_throughput": 10, "max_concurrency": 1}, {"output_throughput": 16, "max_concurrency": 2},
                                 {"output_throughput": 40, "max_concurrency": 8}, {"output_throughput": 32, "max_concurrency": 8},
                                 {"output_throughput": 9, "max_concurrency": 1}])");
  std::vector<double> frontier, others;
  for (const ParetoPoint& point : pareto.points) {
    (point.on_frontier ? frontier : others).push_back(point.tokens_per_device);
  }
  EXPECT_THAT(frontier, ElementsAre(10, 16, 40));
  EXPECT_THAT(others, ElementsAre(9, 32));
  EXPECT_EQ(pareto.frontier_size, 3u);
  const std::string svg = RenderPareto(pareto);
  EXPECT_THAT(svg, HasSubstr("5 runs, 3 on the frontier"));
  EXPECT_THAT(svg, HasSubstr(">max_concurrency=8, gpu_count=1<"));
}

TEST(Pareto, UsersAndDevicesAreFound) {
  const Pareto pareto = Find(R"([
    {"output_throughput": 80.0, "max_concurrency": null, "max_concurrent_requests": 4, "request_rate": 2},
    {"output_throughput": 80.0, "request_rate": 2, "tensor-parallel-size": 2, "dp": 2},
    {"output_throughput": 80.0, "request_rate": "inf", "max_concurrent_requests": 8, "tensor_parallel_size": 4},
    {"output_throughput": 80.0}])");
  ASSERT_EQ(pareto.points.size(), 3u);
  EXPECT_EQ(pareto.without_users, 1u);
  EXPECT_DOUBLE_EQ(pareto.points[0].tokens_per_user, 40);
  EXPECT_DOUBLE_EQ(pareto.points[0].tokens_per_device, 20);
  EXPECT_EQ(pareto.points[0].label, "gpu_count=4");
  EXPECT_DOUBLE_EQ(pareto.points[1].tokens_per_user, 20);
  EXPECT_DOUBLE_EQ(pareto.points[1].tokens_per_device, 80);
  EXPECT_DOUBLE_EQ(pareto.points[2].tokens_per_user, 10);
  EXPECT_DOUBLE_EQ(pareto.points[2].tokens_per_device, 20);
}

TEST(Pareto, KeysMayBeNamed) {
  const Pareto pareto = Find(R"([{"output_throughput": 80, "users": 10, "sockets": 2, "max_concurrency": 1}])",
                             {"users", "sockets", {"sockets"}});
  ASSERT_EQ(pareto.points.size(), 1u);
  EXPECT_DOUBLE_EQ(pareto.points[0].tokens_per_user, 8);
  EXPECT_DOUBLE_EQ(pareto.points[0].tokens_per_device, 40);
  EXPECT_EQ(pareto.points[0].label, "sockets=2");
}

TEST(Pareto, WhatIsWrongIsSaid) {
  const auto none = FindPareto(kKeys, *api::ParseJson(R"([{"max_concurrency": 1}])")->array());
  EXPECT_THAT(none.error().message(), HasSubstr("output_throughput: found none"));
  const auto word = FindPareto(kKeys, *api::ParseJson(R"([{"output_throughput": 1, "max_concurrency": "x"}])")->array());
  EXPECT_THAT(word.error().message(), HasSubstr("max_concurrency: found \"x\""));
}

}  // namespace
}  // namespace tiercel::bench
