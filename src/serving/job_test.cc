#include "serving/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "comm/mpi_transport.h"
#include "serving/serve_config.h"
#include "serving/serve_config_test_util.h"

namespace tiercel::serving {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Job, OneProcessHasNone) {
  EXPECT_FALSE(Make({})->job.has_value());
  EXPECT_FALSE(Make({"-tp", "4", "--nnodes", "1", "--node-rank", "0"})->job.has_value());
  EXPECT_EQ(Make({"-tp", "4"})->environment.ranks, 4);
  // Launched alone, it is as if it had not been launched.
  const auto alone = Make({"-tp", "2", "--distributed-executor-backend", "external_launcher"},
                          {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "1"}});
  EXPECT_FALSE(alone->job.has_value());
  EXPECT_EQ(alone->environment.ranks, 2);
}

TEST(Job, NodesByFlags) {
  const auto config = Make({"-tp", "4", "--nnodes", "2", "--node-rank", "1", "--headless", "--master-addr", "10.0.0.1",
                            "--master-port", "7000", "--distributed-timeout-seconds", "30"});
  ASSERT_TRUE(config.has_value()) << config.error();
  const JobConfig& job = *config->job;
  EXPECT_EQ(job.process.index, 1);
  EXPECT_EQ(job.process.count, 2);
  EXPECT_EQ(job.way, JobConfig::Way::kTcp);
  EXPECT_EQ(job.address, "10.0.0.1");
  EXPECT_EQ(job.port, 7000);
  EXPECT_EQ(job.timeout_seconds, 30);
  EXPECT_EQ(config->environment.ranks, 2);
  EXPECT_EQ(Make({"-tp", "2", "-n", "2"})->job->port, 29501);  // vLLM's
}

// Consecutive ranks are in one process: (stages, ranks of each process).
TEST(Job, RanksAndStagesAreSharedOut) {
  const auto divide = [](int tensor, int pipeline, int processes) {
    const auto config = Make({"-tp", std::to_string(tensor), "-pp", std::to_string(pipeline), "-n", std::to_string(processes)});
    EXPECT_TRUE(config.has_value()) << config.error();
    return std::pair(config->job->stages, config->job->ranks);
  };
  EXPECT_EQ(divide(4, 1, 2), std::pair(1, 2));
  EXPECT_EQ(divide(4, 1, 4), std::pair(1, 1));
  EXPECT_EQ(divide(1, 2, 2), std::pair(2, 1));
  EXPECT_EQ(divide(4, 2, 2), std::pair(2, 4));
  EXPECT_EQ(divide(4, 2, 4), std::pair(2, 2));
  EXPECT_EQ(divide(2, 4, 2), std::pair(2, 2));  // two stages in each, which are one
  EXPECT_THAT(ErrorOf({"-tp", "3", "-n", "2"}), AllOf(HasSubstr("--tensor-parallel-size: found 3"), HasSubstr("2 processes")));
  EXPECT_THAT(ErrorOf({"-tp", "2", "-pp", "3", "-n", "4"}), HasSubstr("--tensor-parallel-size: found 2"));
  EXPECT_THAT(ErrorOf({"-tp", "3", "-pp", "4", "-n", "6"}), HasSubstr("each a part of a stage, or whole stages"));
}

// vLLM's variable: of each stage of the pipeline, merged where a process has several.
TEST(Job, TheUserMaySayWhichLayersAStageHas) {
  const auto layers = [](const std::string& given, int pipeline, int processes) {
    const auto config = Make({"-tp", "1", "-pp", std::to_string(pipeline), "-n", std::to_string(processes)},
                             {{"VLLM_PP_LAYER_PARTITION", given}});
    return config ? fmt::format("{}", fmt::join(config->job->stage_layers, " ")) : config.error().message();
  };
  EXPECT_EQ(layers("", 2, 2), "");
  EXPECT_EQ(layers("5,7", 2, 2), "5 7");
  EXPECT_EQ(layers("5,7,1,2", 4, 2), "12 3");
  for (const char* wrong : {"5", "5,7,1", "5,", "5,x", "5,0", "5,-7", "5,99999999999999999999"}) {
    EXPECT_EQ(layers(wrong, 2, 2), fmt::format("VLLM_PP_LAYER_PARTITION: found \"{}\", expected 2 positive numbers with commas "
                                               "between them, as many as --pipeline-parallel-size", wrong));
  }
}

TEST(Job, WhatDoesNotFitIsRefused) {
  EXPECT_THAT(ErrorOf({"-tp", "2", "-n", "2", "--node-rank", "2"}), HasSubstr("--node-rank"));
  EXPECT_THAT(ErrorOf({"-tp", "2", "-n", "2", "--headless"}), HasSubstr("--headless: found it on node 0"));
  EXPECT_THAT(ErrorOf({"--headless"}), HasSubstr("--headless"));
  EXPECT_THAT(ErrorOf({"-tp", "2", "-n", "2", "-dp", "2"}), HasSubstr("--data-parallel-size: found 2 with a model over 2"));
  EXPECT_THAT(ErrorOf({"-tp", "2", "-n", "2", "--distributed-timeout-seconds", "0"}), HasSubstr("--distributed-timeout-seconds"));
  const std::vector<std::string> launched = {"-tp", "2", "--distributed-executor-backend", "external_launcher"};
  EXPECT_THAT(ErrorOf(launched), HasSubstr("found none of OMPI_COMM_WORLD_RANK"));
  EXPECT_THAT(ErrorOf(launched, {{"RANK", "2"}, {"WORLD_SIZE", "2"}}), HasSubstr("RANK: found \"2\", expected a number from 0 to 1"));
  EXPECT_THAT(ErrorOf(launched, {{"RANK", "1"}, {"WORLD_SIZE", "2"}}), HasSubstr("MASTER_ADDR"));
  EXPECT_THAT(ErrorOf(launched, {{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "x"}}),
              HasSubstr("MASTER_PORT: found \"x\""));
}

TEST(Job, LaunchersTellTheirProcesses) {
  const std::vector<std::string> words = {"-tp", "4", "--distributed-executor-backend", "external_launcher"};
  const auto torchrun = Make(words, {{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"},
                                     {"MASTER_ADDR", "host"}, {"MASTER_PORT", "1234"}});
  ASSERT_TRUE(torchrun.has_value()) << torchrun.error();
  EXPECT_EQ(torchrun->job->address, "host");
  EXPECT_EQ(torchrun->job->port, 1234);
  EXPECT_EQ(torchrun->environment.ranks, 2);
  EXPECT_EQ(torchrun->environment.neighbors.index, 1);
  EXPECT_EQ(torchrun->environment.neighbors.count, 2);
  const Environ mpirun = {{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                          {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  const auto mpi = Make(words, mpirun);
  if (!comm::HasMpi()) {
    EXPECT_THAT(mpi.error().message(), HasSubstr("this build has no MPI"));
    return;
  }
  ASSERT_TRUE(mpi.has_value()) << mpi.error();
  EXPECT_EQ(mpi->job->way, JobConfig::Way::kMpi);
  EXPECT_EQ(mpi->job->process.index, 3);
  EXPECT_EQ(mpi->environment.ranks, 1);
  EXPECT_EQ(mpi->environment.neighbors.index, 1);
}

}  // namespace
}  // namespace tiercel::serving
