#include "hub/file_record.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

namespace tiercel::hub {
namespace {

namespace fs = std::filesystem;

// `printf hello | sha256sum`, `printf world | sha256sum`
const std::string kHello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const std::string kWorld = "486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7";

class FileRecordTest : public ::testing::Test {
 protected:
  FileRecordTest() : dir_(testing::TempDir() + "file_record_test_" + std::to_string(::getpid())) {
    fs::create_directories(dir_);
  }
  ~FileRecordTest() override { fs::remove_all(dir_); }
  void Write(const std::string& text) { std::ofstream(dir_ + "/a b.json") << text; }

  const std::string dir_;
  const HubFile hello_{"a b.json", 5, kHello, ""};
  const HubFile world_{"a b.json", 5, kWorld, ""};
};

TEST_F(FileRecordTest, ARevisionOfTheSameSizeIsAnother) {
  Write("hello");
  FileRecord record(dir_);
  EXPECT_TRUE(record.empty());
  EXPECT_TRUE(record.Has(hello_, "v1"));
  EXPECT_FALSE(record.Has(world_, "v2"));
  ASSERT_TRUE(record.Save("v1", {hello_}).ok());

  FileRecord again(dir_);
  EXPECT_EQ(again.revision(), "v1");
  EXPECT_TRUE(again.Unchanged());
  EXPECT_TRUE(again.Has(hello_, "v1"));
  EXPECT_FALSE(again.Has(world_, "v2"));
}

TEST_F(FileRecordTest, WhatIsOnRecordIsNotReadAgain) {
  Write("hello");
  ASSERT_TRUE(FileRecord(dir_).Save("v1", {hello_}).ok());
  // Other bytes under the old time are taken for the old ones: the file was not read.
  const auto time = fs::last_write_time(dir_ + "/a b.json");
  Write("world");
  fs::last_write_time(dir_ + "/a b.json", time);
  EXPECT_TRUE(FileRecord(dir_).Has(hello_, "v1"));
  // With a time of its own it is read.
  fs::last_write_time(dir_ + "/a b.json", time + std::chrono::seconds(1));
  EXPECT_FALSE(FileRecord(dir_).Unchanged());
  EXPECT_FALSE(FileRecord(dir_).Has(hello_, "v1"));
  EXPECT_TRUE(FileRecord(dir_).Has(world_, "v1"));
}

TEST_F(FileRecordTest, WithoutAChecksumTheRevisionDecides) {
  Write("hello");
  const HubFile unknown{"a b.json", 5, "", ""};
  EXPECT_FALSE(FileRecord(dir_).Has(unknown, "v1"));
  ASSERT_TRUE(FileRecord(dir_).Save("v1", {unknown}).ok());
  EXPECT_TRUE(FileRecord(dir_).Has(unknown, "v1"));
  EXPECT_FALSE(FileRecord(dir_).Has(unknown, "v2"));
}

TEST_F(FileRecordTest, ABrokenRecordIsNone) {
  Write("hello");
  for (const char* text : {"", "v1", "v1\nx", "v1\nabc 5 x a b.json\n", "v1\n- 5 1 ../../etc\n"}) {
    std::ofstream(dir_ + "/.tiercel-files") << text;
    FileRecord record(dir_);
    EXPECT_TRUE(record.empty() || !record.Unchanged()) << text;
    EXPECT_TRUE(record.Has(hello_, "v1")) << text;
  }
}

}  // namespace
}  // namespace tiercel::hub
