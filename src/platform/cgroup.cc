#include "platform/cgroup.h"

#include <algorithm>

#include "base/split.h"
#include "platform/sysfs.h"

namespace tiercel::platform {
namespace {

// The names of the files that hold the same fact in the two versions.
struct MemoryFiles {
  const char* limit;
  const char* usage;
  const char* inactive_file;  // keys of memory.stat; v1's totals include the groups below
  const char* active_file;
};
constexpr MemoryFiles kMemoryV1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                   "total_inactive_file", "total_active_file"};
constexpr MemoryFiles kMemoryV2 = {"memory.max", "memory.current", "inactive_file", "active_file"};

// v1 says "no limit" with the largest multiple of the page size below 2⁶³.
constexpr int64_t kNoLimit = int64_t{1} << 60;

struct Mount {
  std::string root;   // the group that is mounted: "/" or "/docker/<id>"
  std::string point;  // where
  bool v2 = false;
  std::vector<std::string> controllers;  // v1
};

// Fields of /proc/self/mountinfo (proc(5)): id, parent, device, root, mount point, options,
// optional fields, "-", type, source, super options.
std::vector<Mount> ReadMounts(const std::string& root) {
  std::vector<Mount> mounts;
  const std::string text = ReadTextFile(root + "/proc/self/mountinfo").value_or("");
  for (std::string_view line : Split(text, '\n')) {
    const std::vector<std::string_view> fields = Split(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (fields.size() < 6 || fields.end() - dash < 4) continue;
    const std::string_view type = dash[1];
    if (type != "cgroup" && type != "cgroup2") continue;
    Mount mount{std::string(fields[3]), std::string(fields[4]), type == "cgroup2", {}};
    for (std::string_view option : Split(dash[3], ',')) mount.controllers.emplace_back(option);
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

bool Contains(const std::vector<std::string_view>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

// This process's group for a v1 controller, or for v2 (controller "").
std::optional<std::string> GroupPath(const std::string& proc_cgroup, std::string_view controller) {
  for (std::string_view line : Split(proc_cgroup, '\n')) {  // "4:memory:/path", "0::/path"
    const size_t first = line.find(':');
    const size_t second = line.find(':', first == std::string_view::npos ? first : first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view names = line.substr(first + 1, second - first - 1);
    const bool match = controller.empty() ? names.empty() : Contains(Split(names, ','), controller);
    if (match) return std::string(line.substr(second + 1));
  }
  return std::nullopt;
}

// The folders of the process's group and of all groups above it, innermost first.
std::vector<std::string> GroupFolders(const std::string& root, const Mount& mount,
                                      std::string group) {
  if (mount.root != "/") {
    // Without a cgroup namespace /proc/self/cgroup counts from the host's root, the mount does not.
    const bool inside = group.compare(0, mount.root.size(), mount.root) == 0;
    group = inside ? group.substr(mount.root.size()) : "";
  }
  if (group.find("..") != std::string::npos) group.clear();  // outside of what is mounted
  std::vector<std::string> folders;
  while (!group.empty() && group != "/") {
    folders.push_back(root + mount.point + group);
    group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
  }
  folders.push_back(root + mount.point);
  return folders;
}

template <typename T>
void TakeMin(std::optional<T>& current, T value) {
  current = current ? std::min(*current, value) : value;
}

void ReadMemory(const std::string& folder, const MemoryFiles& files, CgroupLimits& limits) {
  const std::optional<int64_t> limit = ReadInt(folder + "/" + files.limit);  // "max": nullopt
  if (!limit || *limit >= kNoLimit) return;
  TakeMin(limits.memory_limit, *limit);
  const int64_t usage = ReadInt(folder + "/" + files.usage).value_or(0);
  const std::string stat = ReadTextFile(folder + "/memory.stat").value_or("");
  const int64_t cache = FindIntField(stat, files.inactive_file).value_or(0) +
                        FindIntField(stat, files.active_file).value_or(0);
  const int64_t used = std::max<int64_t>(0, usage - cache);
  TakeMin(limits.memory_available, std::max<int64_t>(0, *limit - used));
}

// The limit on what is touched; that on what is reserved (rsvd) is the mapping's own affair.
void ReadHugePages(const std::string& folder, const char* limit_file, const char* usage_file,
                   CgroupLimits& limits) {
  const std::optional<int64_t> limit = ReadInt(folder + "/hugetlb.2MB." + limit_file);
  if (!limit || *limit >= kNoLimit) return;
  const int64_t usage = ReadInt(folder + "/hugetlb.2MB." + usage_file).value_or(0);
  TakeMin(limits.huge_pages_available, std::max<int64_t>(0, *limit - usage));
}

void ReadQuota(std::optional<int64_t> quota, std::optional<int64_t> period, CgroupLimits& limits) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return;
  const double cores = static_cast<double>(*quota) / static_cast<double>(*period);
  limits.cpu_quota = limits.cpu_quota == 0 ? cores : std::min(limits.cpu_quota, cores);
}

void ReadCpuMax(const std::string& folder, CgroupLimits& limits) {  // "max 100000", "150000 100000"
  const std::string text = ReadTextFile(folder + "/cpu.max").value_or("");
  const size_t space = text.find(' ');
  if (space == std::string::npos) return;
  ReadQuota(ParseInt(text), ParseInt(std::string_view(text).substr(space + 1)), limits);
}

void ReadCpuset(const std::string& folder, const char* file, CgroupLimits& limits) {
  if (limits.cpuset) return;  // the innermost group's effective set is within those above
  const std::vector<int> cpus = ParseCpuList(ReadTextFile(folder + "/" + file).value_or(""));
  if (!cpus.empty()) limits.cpuset = cpus;
}

}  // namespace

CgroupLimits ReadCgroupLimits(const std::string& root) {
  CgroupLimits limits;
  const std::string proc_cgroup = ReadTextFile(root + "/proc/self/cgroup").value_or("");
  for (const Mount& mount : ReadMounts(root)) {
    if (mount.v2) {
      const std::optional<std::string> group = GroupPath(proc_cgroup, "");
      if (!group) continue;
      for (const std::string& folder : GroupFolders(root, mount, *group)) {
        ReadMemory(folder, kMemoryV2, limits);
        ReadCpuMax(folder, limits);
        ReadCpuset(folder, "cpuset.cpus.effective", limits);
        ReadHugePages(folder, "max", "current", limits);
      }
      continue;
    }
    for (const std::string& controller : mount.controllers) {
      if (controller != "memory" && controller != "cpu" && controller != "cpuset" &&
          controller != "hugetlb") {
        continue;
      }
      const std::optional<std::string> group = GroupPath(proc_cgroup, controller);
      if (!group) continue;
      for (const std::string& folder : GroupFolders(root, mount, *group)) {
        if (controller == "memory") ReadMemory(folder, kMemoryV1, limits);
        if (controller == "cpu") {
          ReadQuota(ReadInt(folder + "/cpu.cfs_quota_us"), ReadInt(folder + "/cpu.cfs_period_us"),
                    limits);
        }
        if (controller == "cpuset") ReadCpuset(folder, "cpuset.cpus", limits);
        if (controller == "hugetlb") {
          ReadHugePages(folder, "limit_in_bytes", "usage_in_bytes", limits);
        }
      }
    }
  }
  return limits;
}

}  // namespace tiercel::platform
