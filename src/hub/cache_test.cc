#include "hub/cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>

namespace tiercel::hub {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class HubCache : public ::testing::Test {
 protected:
  HubCache() : dir_(testing::TempDir() + "hub_cache_test_" + std::to_string(::getpid())) {
    fs::create_directories(dir_);
  }
  ~HubCache() override { fs::remove_all(dir_); }

  std::string Write(const std::string& name, const std::string& text) {
    const fs::path path = fs::path(dir_) / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path;
  }

  const std::string dir_;
};

TEST_F(HubCache, ChecksumsAreShaAndGits) {
  const std::string path = Write("f", "hello\n");
  HubFile file{"f", 6, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", ""};
  EXPECT_TRUE(VerifyFile(file, path).ok());
  file.sha256[0] = '6';
  EXPECT_THAT(VerifyFile(file, path).message(), HasSubstr("f: checksum 5891"));
  // `git hash-object` of the same text.
  EXPECT_TRUE(VerifyFile({"f", 6, "", "ce013625030ba8dba906f756967f9e9ca394464a"}, path).ok());
  EXPECT_FALSE(VerifyFile({"f", 6, "", "ce013625030ba8dba906f756967f9e9ca394464b"}, path).ok());
  EXPECT_THAT(VerifyFile({"f", 7, "", ""}, path).message(),
              HasSubstr("found 6 bytes, the hub says 7"));
}

TEST_F(HubCache, LayoutIsHuggingFaces) {
  const RepositoryCache cache(dir_, "org/name");
  EXPECT_FALSE(cache.FindCommit("main"));
  Write("models--org--name/blobs/abc", "{}");
  ASSERT_TRUE(cache.Link("c0ffee", "config.json", "abc").ok());
  ASSERT_TRUE(cache.Link("c0ffee", "config.json", "abc").ok());
  ASSERT_TRUE(cache.SaveRef("main", "c0ffee").ok());
  EXPECT_EQ(cache.FindCommit("main"), "c0ffee");
  EXPECT_EQ(cache.FindCommit("c0ffee"), "c0ffee");
  EXPECT_EQ(fs::read_symlink(dir_ + "/models--org--name/snapshots/c0ffee/config.json"),
            "../../blobs/abc");
}

TEST_F(HubCache, ARefThatIsRightIsNotWritten) {
  const RepositoryCache cache(dir_, "org/name");
  const std::string ref = Write("models--org--name/refs/main", "c0ffee");
  const auto time = fs::last_write_time(ref) - std::chrono::hours(1);
  fs::last_write_time(ref, time);
  EXPECT_TRUE(cache.SaveRef("main", "c0ffee").ok());
  EXPECT_EQ(fs::last_write_time(ref), time);
  EXPECT_TRUE(cache.SaveRef("main", "decaf").ok());
  EXPECT_NE(fs::last_write_time(ref), time);
}

TEST_F(HubCache, ALockIsHeldByOneUntilItGoes) {
  std::atomic<bool> stop{true};
  {
    const auto lock = FileLock::Take(dir_ + "/a/lock", &stop);
    ASSERT_TRUE(lock) << lock.error();
    const auto second = FileLock::Take(dir_ + "/a/lock", &stop);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), StatusCode::kCancelled);
  }
  EXPECT_TRUE(FileLock::Take(dir_ + "/a/lock", &stop));
}

TEST(HubCacheDir, VariablesInTheirOrder) {
  const Environ home = {{"HOME", "/h"}};
  EXPECT_EQ(HuggingFaceCacheDir(home, ""), "/h/.cache/huggingface/hub");
  EXPECT_EQ(HuggingFaceCacheDir({{"HOME", "/h"}, {"HF_HOME", "/x"}}, ""), "/x/hub");
  EXPECT_EQ(HuggingFaceCacheDir({{"HF_HUB_CACHE", "/y"}, {"HF_HOME", "/x"}}, ""), "/y");
  EXPECT_EQ(HuggingFaceCacheDir(home, "/d"), "/d");
  EXPECT_EQ(ModelScopeCacheDir(home, ""), "/h/.cache/modelscope/hub");
}

}  // namespace
}  // namespace tiercel::hub
