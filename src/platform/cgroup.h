// The limits of the control groups that this process is in: both hierarchies, v1 and v2, every
// level from its own group up to the root of what is mounted (a container sees its own part).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::platform {

struct CgroupLimits {
  double cpu_quota = 0;                 // cores; 0: none
  std::optional<int64_t> memory_limit;  // bytes, the smallest on the way up
  // The smallest limit − usage on the way up; file cache counts as unused, since the kernel drops
  // it under pressure.
  std::optional<int64_t> memory_available;
  std::optional<std::vector<int>> cpuset;
  // Bytes of 2 MiB pages that the groups' limits leave, the smallest on the way up; none: no limit is
  // seen. The kernel keeps to it only when a page is touched, by SIGBUS.
  std::optional<int64_t> huge_pages_available;
};

// `root` prefixes /proc and /sys.
CgroupLimits ReadCgroupLimits(const std::string& root);

}  // namespace tiercel::platform
