#include "platform/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "platform/cgroup.h"
#include "platform/recorded_topology.h"
#include "platform/sysfs.h"

namespace tiercel::platform {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kGib = int64_t{1} << 30;

TEST(RecordedTopology, TwoSocketsWithHyperthreads) {
  const Topology t = DetectRecorded("bare_two_sockets");
  ASSERT_EQ(t.cpus.size(), 16u);
  EXPECT_EQ(t.cpus[13].id, 13);
  EXPECT_EQ(t.cpus[13].core, 5);
  EXPECT_EQ(t.cpus[13].package, 1);
  EXPECT_EQ(t.cpus[13].numa_node, 1);
  EXPECT_EQ(t.cpus[8].numa_node, 0);
  EXPECT_EQ(t.numa_nodes, 2);
  EXPECT_EQ(t.cpu_quota, 0);
  EXPECT_EQ(t.memory_total, int64_t{65536000} << 10);
  EXPECT_EQ(t.memory_available, int64_t{60000000} << 10);
  EXPECT_EQ(t.l1d_bytes, 48 << 10);
  EXPECT_EQ(t.l2_bytes, 2 << 20);
  EXPECT_EQ(t.l3_bytes, 36 << 20);
  EXPECT_EQ(t.huge_pages, "always");
  EXPECT_EQ(t.explicit_huge_pages_free, 500);  // those promised to others do not count
  EXPECT_THAT(t.WorkerCpus(), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(t.WorkerCpus(3), ElementsAre(0, 1, 2));
  EXPECT_THAT(t.ByNodeAndCache({6, 1, 4, 0}), ElementsAre(1, 0, 6, 4));
  EXPECT_THAT(t.CachesOf({0, 3, 4, 8, 13}), ElementsAre(0, 0, 4, 0, 4));  // one each socket
  EXPECT_THAT(t.WorkerCpus(100), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST(RecordedTopology, DockerV1QuotaAndMemory) {
  const Topology t = DetectRecorded("docker_v1");
  EXPECT_DOUBLE_EQ(t.cpu_quota, 2.5);
  EXPECT_THAT(t.WorkerCpus(), ElementsAre(0, 1, 2));
  EXPECT_THAT(t.WorkerCpus(2), ElementsAre(0, 1));
  EXPECT_EQ(t.memory_total, 4 * kGib);
  EXPECT_EQ(t.memory_available, 3 * kGib);  // of 3 GiB used, 2 are file cache
  EXPECT_EQ(t.l3_bytes, 32 << 20);
}

TEST(RecordedTopology, V1WithoutLimits) {
  const Topology t = DetectRecorded("host_v1_unlimited");
  EXPECT_EQ(t.cpu_quota, 0);
  EXPECT_EQ(t.memory_total, int64_t{24684084} << 10);
  EXPECT_EQ(t.memory_available, int64_t{24221240} << 10);
  EXPECT_THAT(t.WorkerCpus(), ElementsAre(0, 1));
  EXPECT_EQ(t.numa_nodes, 1);
  EXPECT_EQ(t.huge_pages, "madvise");
}

TEST(RecordedTopology, V2TakesTheTightestLimitOnTheWayUp) {
  const Topology t = DetectRecorded("kubernetes_v2_nested");
  EXPECT_DOUBLE_EQ(t.cpu_quota, 3.5);  // the pod's, not the container's 8
  EXPECT_EQ(t.WorkerCpus().size(), 4u);
  EXPECT_EQ(t.memory_total, 16 * kGib);     // the container's, not the pod's 32
  EXPECT_EQ(t.memory_available, 2 * kGib);  // 32 − (31 − 1 of cache): the pod has less left
}

TEST(RecordedTopology, V2CpusetIntersectsTheMask) {
  const Topology t = DetectRecorded("docker_v2_cpuset");
  ASSERT_EQ(t.cpus.size(), 3u);
  EXPECT_THAT(t.WorkerCpus(), ElementsAre(6, 7));  // 14 is the second thread of 6
  EXPECT_EQ(t.numa_nodes, 1);
  EXPECT_EQ(t.cpus[0].numa_node, 1);
  EXPECT_EQ(t.huge_pages, "never");
}

TEST(RecordedTopology, KnowsTheNodesOfWorkers) {
  const Topology t = DetectRecorded("bare_two_sockets");
  EXPECT_THAT(t.NodesOf(t.WorkerCpus()), ElementsAre(0, 0, 0, 0, 1, 1, 1, 1));
  EXPECT_THAT(t.NodesOf({13, 0, 13}), ElementsAre(1, 0, 1));
}

// Two fast cores with two hardware threads each and four efficient ones.
TEST(RecordedTopology, IntelsEfficiencyCoresAreOfAnotherKind) {
  const Topology t = DetectRecorded("hybrid_intel");
  ASSERT_EQ(t.cpus.size(), 8u);
  EXPECT_THAT(t.AllCores(), ElementsAre(0, 2, 4, 5, 6, 7));
  EXPECT_THAT(t.KindsOf(t.AllCores()), ElementsAre(0, 0, 1, 1, 1, 1));
  EXPECT_THAT(t.WorkerCpus(), ElementsAre(0, 2));
  EXPECT_THAT(t.WorkerCpus(1), ElementsAre(0));
  EXPECT_THAT(t.WorkerCpus(6), ElementsAre(0, 2));
}

TEST(RecordedTopology, ArmsSmallCoresGetNoWorkersUnlessAlone) {
  Topology t = DetectRecorded("big_little_arm");
  EXPECT_THAT(t.WorkerCpus(), ElementsAre(2, 3));
  EXPECT_THAT(t.AllCores(), ElementsAre(2, 3, 0, 1));
  EXPECT_THAT(t.KindsOf({0, 1, 2, 3}), ElementsAre(1, 1, 0, 0));
  t.cpus.resize(2);  // taskset to the small ones
  EXPECT_THAT(t.WorkerCpus(), ElementsAre(0, 1));
}

// A fast core that the maker favors, another one, and two of a lower clock: none is named efficient.
TEST(RecordedTopology, ALowerClockIsAnotherKind) {
  const Topology t = DetectRecorded("dense_cores_amd");
  EXPECT_THAT(t.KindsOf({0, 1, 2, 3}), ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(t.WorkerCpus(), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(t.AllCores(), ElementsAre(0, 2, 1, 3));
}

TEST(RecordedTopology, CpusThatAreAlikeAreOfOneKind) {
  for (const char* name : {"bare_two_sockets", "host_v1_unlimited", "eight_nodes"}) {
    const Topology t = DetectRecorded(name);
    for (const Cpu& cpu : t.cpus) EXPECT_EQ(cpu.kind, 0) << name << " CPU " << cpu.id;
  }
}

// What the groups' limits leave of 2 MiB pages, in both versions of the hierarchy.
TEST(Cgroup, HugePagesThatTheLimitsLeave) {
  const auto read = [](const std::map<std::string, std::string>& files) {
    std::string root = testing::TempDir() + "cgroup_XXXXXX";
    EXPECT_NE(mkdtemp(root.data()), nullptr);
    for (const auto& [name, text] : files) {
      const std::filesystem::path path = root + "/" + name;
      std::filesystem::create_directories(path.parent_path());
      std::ofstream(path) << text << '\n';
    }
    const CgroupLimits limits = ReadCgroupLimits(root);
    std::filesystem::remove_all(root);
    return limits.huge_pages_available;
  };
  std::map<std::string, std::string> v2 = {
      {"proc/self/cgroup", "0::/pod/box"},
      {"proc/self/mountinfo", "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"},
      {"sys/fs/cgroup/pod/hugetlb.2MB.max", "max"},
      {"sys/fs/cgroup/pod/box/hugetlb.2MB.max", "max"}};
  EXPECT_EQ(read(v2), std::nullopt);
  v2["sys/fs/cgroup/pod/hugetlb.2MB.max"] = "8388608";
  v2["sys/fs/cgroup/pod/hugetlb.2MB.current"] = "6291456";
  EXPECT_EQ(read(v2), 2 << 20);
  v2["sys/fs/cgroup/pod/box/hugetlb.2MB.max"] = "0";
  EXPECT_EQ(read(v2), 0);
  std::map<std::string, std::string> v1 = {
      {"proc/self/cgroup", "6:hugetlb:/docker/7"},
      {"proc/self/mountinfo",
       "36 24 0:31 /docker/7 /sys/fs/cgroup/hugetlb rw - cgroup cgroup rw,hugetlb"},
      {"sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes", "9223372036852678656"}};
  EXPECT_EQ(read(v1), std::nullopt);
  v1["sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes"] = "4194304";
  v1["sys/fs/cgroup/hugetlb/hugetlb.2MB.usage_in_bytes"] = "4194304";
  EXPECT_EQ(read(v1), 0);
}

TEST(Topology, NeedsProcOrSys) {
  const Expected<Topology> t = Topology::Detect("/nonexistent");
  ASSERT_FALSE(t);
  EXPECT_EQ(t.error().code(), StatusCode::kFailedPrecondition);
}

TEST(Topology, ThisMachine) {
  const Expected<Topology> t = Topology::Detect();
  ASSERT_TRUE(t) << t.error();
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  EXPECT_EQ(t->cpus.size(), static_cast<size_t>(CPU_COUNT(&set)));
  for (const Cpu& cpu : t->cpus) EXPECT_TRUE(CPU_ISSET(cpu.id, &set));
  EXPECT_GT(t->memory_total, 0);
  EXPECT_LE(t->memory_available, t->memory_total);
  EXPECT_FALSE(t->WorkerCpus().empty());
}

TEST(Sysfs, ParsesListsAndNumbers) {
  EXPECT_THAT(ParseCpuList("0-2,5,4,5"), ElementsAre(0, 1, 2, 4, 5));
  EXPECT_THAT(ParseCpuList(""), IsEmpty());
  EXPECT_THAT(ParseCpuList("x,3-1,-4,7-"), IsEmpty());
  EXPECT_EQ(ParseCpuList("0-99999999999").size(), 65536u);
  EXPECT_EQ(ParseInt("99999999999999999999"), INT64_MAX);
  EXPECT_EQ(ParseInt("max"), std::nullopt);
  EXPECT_EQ(FindIntField("ab 1\nabc 2\na 3", "a"), 3);
  EXPECT_EQ(FindIntField("ab 1", "b"), std::nullopt);
  const std::string info = "model\t\t: 17\nmodel name\t: A CPU: 3 GHz \nCPU part\t: 0xd40\nflags:\n";
  EXPECT_EQ(FindTextField(info, "model"), "17");
  EXPECT_EQ(FindTextField(info, "model name"), "A CPU: 3 GHz");
  EXPECT_EQ(FindTextField(info, "CPU part"), "0xd40");
  EXPECT_EQ(FindTextField(info, "flags"), "");
  EXPECT_EQ(FindTextField(info, "CPU"), std::nullopt);
}

}  // namespace
}  // namespace tiercel::platform
