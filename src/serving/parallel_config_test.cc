#include "serving/parallel_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serving/serve_config_test_util.h"

namespace tiercel::serving {
namespace {

using platform::CpuBinding;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(ParallelConfig, EnginesOfThisProcess) {
  struct Case {
    std::vector<std::string> flags;
    int engines, first;
  };
  for (const Case& c : std::vector<Case>{
           {{}, 1, 0},
           {{"-dp", "3"}, 3, 0},
           {{"-dp", "3", "-dpl", "3"}, 3, 0},
           {{"-dp", "3", "--data-parallel-start-rank", "0"}, 3, 0},
           {{"-dp", "3", "--data-parallel-rank", "2"}, 1, 2},
           {{"-dp", "3", "-dpe", "-dpn", "0"}, 1, 0},
           {{"-dp", "4", "-dph", "-dpl", "2"}, 2, 0},
           {{"-dp", "4", "-dph", "-dpl", "2", "-dpr", "2"}, 2, 2},
           {{"-dp", "4", "-dph", "-dpr", "1"}, 3, 1}}) {
    const auto config = Make(c.flags);
    ASSERT_TRUE(config) << config.error().message();
    EXPECT_EQ(config->environment.engines, c.engines);
    EXPECT_EQ(config->engine.index, c.first);
    EXPECT_EQ(config->server.num_engines, c.engines);
    EXPECT_EQ(config->server.first_engine, c.first);
    const bool part = c.engines < config->data_parallel_size;
    EXPECT_EQ(testing::Value(config->warnings, Contains(HasSubstr("a load balancer has to choose"))), part);
  }
}

TEST(ParallelConfig, EnginesThatAreRefused) {
  EXPECT_EQ(ErrorOf({"-dp", "0"}), "argument --data-parallel-size: found 0, expected 1 … 4096");
  EXPECT_EQ(ErrorOf({"-dp", "4", "-dpn", "4"}), "argument --data-parallel-rank: found 4, expected 0 … 3");
  EXPECT_EQ(ErrorOf({"-dp", "4", "-dpl", "0"}), "argument --data-parallel-size-local: found 0, expected 1 … 4");
  EXPECT_THAT(ErrorOf({"-dp", "4", "-dpl", "2"}),
              HasSubstr("argument --data-parallel-size-local: found 2, expected 4: engines of other processes"));
  EXPECT_THAT(ErrorOf({"-dp", "4", "-dpr", "1"}),
              HasSubstr("argument --data-parallel-start-rank: found 1, expected 0: engines of other processes"));
  EXPECT_EQ(ErrorOf({"-dp", "4", "-dph", "-dpr", "3", "-dpl", "2"}),
            "argument --data-parallel-size-local: found 2, expected 1 … 1");
  EXPECT_THAT(ErrorOf({"-dp", "2", "--data-parallel-external-lb"}), HasSubstr("found no --data-parallel-rank"));
}

// What has no meaning here is said.
TEST(ParallelConfig, FlagsWithoutEffect) {
  for (const auto& [flag, value] : {std::pair{"--data-parallel-address", "10.0.0.1"},
                                    {"--data-parallel-rpc-port", "13389"},
                                    {"--data-parallel-backend", "ray"},
                                    {"--api-server-count", "4"}}) {
    const auto config = Make({"-dp", "2", flag, value});
    ASSERT_TRUE(config) << config.error().message();
    EXPECT_THAT(config->warnings, ElementsAre(HasSubstr(std::string(flag) + " has no effect here")));
  }
}

TEST(ParallelConfig, WhereWorkersRun) {
  const auto made = [](const std::vector<std::string>& flags, const Environ& environ = {}) {
    const auto config = Make(flags, environ);
    EXPECT_TRUE(config) << config.error().message();
    return config->environment;
  };
  const char* kBind = "VLLM_CPU_OMP_THREADS_BIND";
  EXPECT_EQ(made({}).binding.kind, CpuBinding::Kind::kAuto);
  EXPECT_EQ(made({}, {{kBind, "auto"}}).binding.kind, CpuBinding::Kind::kAuto);
  EXPECT_EQ(made({"--numa-bind"}, {{kBind, ""}}).binding.kind, CpuBinding::Kind::kAuto);
  EXPECT_EQ(made({}, {{kBind, "nobind"}}).binding.kind, CpuBinding::Kind::kNone);
  const auto lists = made({"-tp", "2"}, {{kBind, "0-1 | 4,6"}}).binding;
  EXPECT_EQ(lists.kind, CpuBinding::Kind::kLists);
  EXPECT_THAT(lists.lists, ElementsAre(ElementsAre(0, 1), ElementsAre(4, 6)));
  EXPECT_THAT(made({"--numa-bind-cpus", "0-1", "4,6"}).binding.lists,
              ElementsAre(ElementsAre(0, 1), ElementsAre(4, 6)));
  EXPECT_THAT(made({"--numa-bind", "--numa-bind-nodes", "1", "0"}).binding.nodes, ElementsAre(1, 0));
  EXPECT_EQ(made({}, {{"VLLM_CPU_NUM_OF_RESERVED_CPU", "2"}}).reserved_cpus, 2);

  EXPECT_EQ(ErrorOf({"--numa-bind-nodes", "1", "x"}),
            "argument --numa-bind-nodes: found 'x', expected the numbers of NUMA nodes");
  EXPECT_EQ(ErrorOf({"--numa-bind-cpus", "3-1"}),
            "argument --numa-bind-cpus: found '3-1', expected CPUs as in 0-3,8");
  EXPECT_EQ(ErrorOf({"--numa-bind"}, {{kBind, "nobind"}}),
            "VLLM_CPU_OMP_THREADS_BIND=nobind and argument --numa-bind contradict each other: give one of them");
  EXPECT_THAT(ErrorOf({"--numa-bind-nodes", "0"}, {{kBind, "0-3"}}), HasSubstr("contradict each other"));
  EXPECT_EQ(ErrorOf({}, {{"VLLM_CPU_NUM_OF_RESERVED_CPU", "-1"}}),
            "VLLM_CPU_NUM_OF_RESERVED_CPU: found '-1', expected an integer from 0 to 1048576");
}

TEST(ParallelConfig, BindingsThatOthersOverrideAreNamed) {
  const auto both = Make({"--numa-bind-cpus", "0", "--numa-bind-nodes", "1"});
  ASSERT_TRUE(both);
  EXPECT_THAT(both->warnings, ElementsAre(HasSubstr("--numa-bind-nodes has no effect here")));
  const auto reserved = Make({"--numa-bind-cpus", "0"}, {{"VLLM_CPU_NUM_OF_RESERVED_CPU", "1"}});
  ASSERT_TRUE(reserved);
  EXPECT_THAT(reserved->warnings, ElementsAre(HasSubstr("VLLM_CPU_NUM_OF_RESERVED_CPU=1 has no effect here")));
  EXPECT_THAT(Make({"--numa-bind"})->warnings, IsEmpty());
}

}  // namespace
}  // namespace tiercel::serving
