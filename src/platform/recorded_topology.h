// For tests: machines that were recorded.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "platform/topology.h"

namespace tiercel::platform {

// Unpacks tests/data/topology/<name>.txt and reads it as the root of /proc and /sys.
inline Topology DetectRecorded(const std::string& name) {
  std::string folder = testing::TempDir() + "topology_XXXXXX";
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  std::ifstream recorded(std::string(TIERCEL_TEST_DATA) + "/topology/" + name + ".txt");
  EXPECT_TRUE(recorded.is_open()) << name;
  std::ofstream out;
  for (std::string line; std::getline(recorded, line);) {
    if (line.rfind("=== ", 0) == 0) {
      const std::filesystem::path path = folder + "/" + line.substr(4);
      std::filesystem::create_directories(path.parent_path());
      out.close();
      out.open(path);
    } else {
      out << line << '\n';
    }
  }
  out.close();
  const Expected<Topology> topology = Topology::Detect(folder);
  std::filesystem::remove_all(folder);
  EXPECT_TRUE(topology) << topology.error();
  return topology ? *topology : Topology();
}

}  // namespace tiercel::platform
