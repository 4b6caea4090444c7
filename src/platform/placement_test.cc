#include "platform/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include "base/split.h"
#include "platform/recorded_topology.h"
#include "platform/sysfs.h"

namespace tiercel::platform {
namespace {

Expected<Placement> PlaceAs(const std::string& text) {
  std::istringstream words(text);
  std::string name;
  words >> name;
  Topology topology = DetectRecorded(name);
  PlacementOptions o;
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    const std::string key = word.substr(0, equals), value = word.substr(equals + 1);
    if (key == "ranks") {
      o.ranks = std::stoi(value);
    } else if (key == "engines") {
      o.engines = std::stoi(value);
    } else if (key == "threads") {
      o.threads = std::stoi(value);
    } else if (key == "most") {
      o.most = std::stoi(value);
    } else if (key == "reserved") {
      o.reserved = std::stoi(value);
    } else if (key == "quota") {
      topology.cpu_quota = std::stod(value);
    } else if (key == "cpus") {
      const std::vector<int> allowed = ParseCpuList(value);
      std::erase_if(topology.cpus, [&](const Cpu& cpu) {
        return std::find(allowed.begin(), allowed.end(), cpu.id) == allowed.end();
      });
    } else if (key == "bind") {
      ASSIGN_OR_RETURN(o.binding, ParseCpuBinding(value, "VLLM_CPU_OMP_THREADS_BIND"));
    } else if (key == "nodes") {
      o.binding = {CpuBinding::Kind::kNodes, {}, {}, "--numa-bind-nodes"};
      for (const std::string_view node : Split(value, ',')) {
        o.binding.nodes.push_back(static_cast<int>(ParseInt(node).value_or(-1)));
      }
    } else {
      ADD_FAILURE() << "unknown key " << key;
    }
  }
  return Place(topology, o);
}

std::string Describe(const Placement& placement) {
  std::string text;
  for (const std::vector<int>& rank : placement.ranks) {
    text += text.empty() ? "" : " | ";
    for (size_t i = 0; i < rank.size(); ++i) text += fmt::format("{}{}", i > 0 ? "," : "", rank[i]);
  }
  if (placement.pin) text += " pinned";
  if (placement.shared) text += " shared";
  if (placement.idle > 0) text += fmt::format(" idle={}", placement.idle);
  return text;
}

TEST(Placement, Cases) {
  std::ifstream file(std::string(TIERCEL_TEST_DATA) + "/placement/cases.txt");
  ASSERT_TRUE(file.is_open());
  int count = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    ++count;
    SCOPED_TRACE(line);
    const size_t arrow = line.find(" -> "), refused = line.find(" !! ");
    const Expected<Placement> placement = PlaceAs(line.substr(0, std::min(arrow, refused)));
    if (refused != std::string::npos) {
      ASSERT_FALSE(placement) << Describe(*placement);
      EXPECT_EQ(placement.error().code(), StatusCode::kInvalidArgument);
      EXPECT_NE(placement.error().message().find(line.substr(refused + 4)), std::string::npos)
          << placement.error();
    } else {
      ASSERT_TRUE(placement) << placement.error();
      EXPECT_EQ(Describe(*placement), line.substr(arrow + 4));
    }
  }
  EXPECT_GT(count, 60);
}

// On every machine, for every number of ranks: as many cores for each, none twice, and none of another
// node than the rank's first where ranks are at least as many as nodes.
TEST(Placement, NoRankLiesAcrossNodes) {
  for (const char* name : {"bare_two_sockets", "four_nodes_interleaved", "eight_nodes", "big_little_arm",
                           "hybrid_intel", "host_v1_unlimited"}) {
    const Topology topology = DetectRecorded(name);
    for (int ranks = 1; ranks <= std::ssize(topology.Cores()); ++ranks) {
      const int64_t cores = std::ssize(ranks == 1 ? topology.AllCores() : topology.Cores());
      SCOPED_TRACE(testing::Message() << name << ", " << ranks << " ranks");
      PlacementOptions options;
      options.ranks = ranks;
      const auto placement = Place(topology, options);
      ASSERT_TRUE(placement) << placement.error();
      ASSERT_EQ(std::ssize(placement->ranks), ranks);
      std::vector<int> all;
      for (const std::vector<int>& rank : placement->ranks) {
        EXPECT_EQ(rank.size(), placement->ranks[0].size());
        all.insert(all.end(), rank.begin(), rank.end());
        std::vector<int> nodes = topology.NodesOf(rank);
        EXPECT_TRUE(std::is_sorted(nodes.begin(), nodes.end()));
        if (ranks >= topology.numa_nodes) {
          EXPECT_EQ(nodes.front(), nodes.back());
        }
      }
      EXPECT_EQ(std::ssize(all) + placement->idle, cores);
      std::sort(all.begin(), all.end());
      EXPECT_EQ(std::unique(all.begin(), all.end()), all.end());
    }
  }
}

TEST(Placement, DescribesCpus) {
  EXPECT_EQ(DescribeCpus({3, 0, 1, 2, 8}), "0-3,8");
  EXPECT_EQ(DescribeCpus({5, 5}), "5");
  EXPECT_EQ(DescribeCpus({}), "");
}

TEST(Placement, ListsAreBoundedInAll) {
  std::string text = "0-4095";
  for (int i = 0; i < 16; ++i) text += "|0-4095";
  const auto binding = ParseCpuBinding(text, "X");
  ASSERT_FALSE(binding);
  EXPECT_NE(binding.error().message().find("found more than 65535 CPUs in all"), std::string::npos);
}

}  // namespace
}  // namespace tiercel::platform
