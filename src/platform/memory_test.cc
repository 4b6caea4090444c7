// Buffer and MappedFile.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "platform/buffer.h"
#include "platform/bus_error.h"
#include "platform/mapped_file.h"
#include "platform/topology.h"

namespace tiercel::platform {
namespace {

using testing::HasSubstr;

constexpr size_t kHugePage = size_t{2} << 20;

TEST(Buffer, IsZeroedAlignedAndWholeHugePages) {
  Expected<Buffer> buffer = Buffer::Allocate(3 * kHugePage + 1);
  ASSERT_TRUE(buffer) << buffer.error();
  EXPECT_EQ(buffer->size(), 4 * kHugePage);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % kHugePage, 0u);
  const uint64_t* words = buffer->as<uint64_t>();
  uint64_t any = 0;
  for (size_t i = 0; i < buffer->size() / 8; ++i) any |= words[i];
  EXPECT_EQ(any, 0u);
  buffer->as<uint8_t>()[buffer->size() - 1] = 1;
}

TEST(Buffer, EmptiedIsZeroAndTakesNoMemory) {
  Expected<Buffer> buffer = Buffer::Allocate(8 * kHugePage);
  ASSERT_TRUE(buffer);
  const auto resident = [&] {
    std::vector<unsigned char> pages(buffer->size() / 4096);
    EXPECT_EQ(mincore(buffer->data(), buffer->size(), pages.data()), 0);
    return std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
  };
  std::memset(buffer->data(), 7, buffer->size());
  EXPECT_GT(resident(), 0);
  buffer->Empty();
  if (Topology::Detect()->explicit_huge_pages_free == 0) EXPECT_EQ(resident(), 0);
  const uint8_t* const bytes = buffer->as<uint8_t>();
  EXPECT_TRUE(std::all_of(bytes, bytes + buffer->size(), [](uint8_t byte) { return byte == 0; }));
  buffer->as<uint8_t>()[5] = 1;
  Buffer().Empty();
}

TEST(Buffer, LiesInHugePagesWhereTheyAreAllowed) {
  const Topology topology = *Topology::Detect();
  constexpr size_t kSize = 16 * kHugePage;
  const size_t before = HugePageBytesInUse();
  Expected<Buffer> buffer = Buffer::Allocate(kSize);
  ASSERT_TRUE(buffer);
  for (size_t i = 0; i < kSize; i += 4096) buffer->as<uint8_t>()[i] = 1;
  if (topology.huge_pages == "never" && topology.explicit_huge_pages_free < 16) {
    GTEST_SKIP() << "no huge pages on this machine";
  }
  // Physical memory may be fragmented: at least half.
  EXPECT_GE(HugePageBytesInUse(), before + kSize / 2);
}

// A folder on a disk, or "".
std::string DiskFolder() {
  for (const std::string& folder : {std::filesystem::current_path().string(), std::string("/var/tmp")}) {
    if (Buffer::AllocatePartlyOnDisk(1, 0, folder)) return folder;
  }
  return "";
}

// A part of a file; behind it lies memory that may be read, up to a whole huge page.
TEST(Buffer, MapsAFile) {
  std::string path = testing::TempDir() + "/mapped_part_XXXXXX";
  const int file = mkstemp(path.data());
  ASSERT_GE(file, 0);
  std::string bytes(3 * 4096 + 100, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + i / 4096);
  ASSERT_EQ(write(file, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  {
    const Expected<Buffer> buffer = Buffer::MapFile(file, 4096, bytes.size() - 4096, path);
    ASSERT_TRUE(buffer) << buffer.error();
    EXPECT_EQ(std::memcmp(buffer->data(), bytes.data() + 4096, bytes.size() - 4096), 0);
    EXPECT_EQ(buffer->size(), kHugePage);
    EXPECT_EQ(buffer->in_memory(), 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % kHugePage, 0u);
    EXPECT_EQ(buffer->as<const char>()[kHugePage - 1], 0);
  }
  const Expected<Buffer> odd = Buffer::MapFile(file, 100, 4096, path);  // no page begins there
  ASSERT_FALSE(odd);
  EXPECT_THAT(odd.error().message(), HasSubstr(path));
  close(file);
  unlink(path.c_str());
}

// Both parts are one range, whose contents survive that the kernel lets the pages go.
TEST(Buffer, LiesPartlyOnDisk) {
  const std::string folder = DiskFolder();
  if (folder.empty()) GTEST_SKIP() << "no disk on this machine";
  for (const size_t in_memory : {size_t{0}, kHugePage, 2 * kHugePage + 5}) {
    Expected<Buffer> buffer =
        Buffer::AllocatePartlyOnDisk(4 * kHugePage + 100, in_memory, folder);
    ASSERT_TRUE(buffer) << buffer.error();
    EXPECT_EQ(buffer->size(), 5 * kHugePage);
    EXPECT_EQ(buffer->in_memory(), in_memory / kHugePage * kHugePage);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % kHugePage, 0u);
    uint64_t* words = buffer->as<uint64_t>();
    const size_t count = buffer->size() / 8;
    uint64_t any = 0;
    for (size_t i = 0; i < count; ++i) {
      any |= words[i];
      words[i] = i * 0x9e3779b97f4a7c15;
    }
    EXPECT_EQ(any, 0u);
    std::byte* const on_disk = buffer->as<std::byte>() + buffer->in_memory();
    Buffer::LetGo(on_disk + 1, buffer->size() - buffer->in_memory() - 1);
    Buffer::WillNeed(on_disk + 4095, 4098);
    size_t wrong = 0;
    for (size_t i = 0; i < count; ++i) wrong += words[i] != i * 0x9e3779b97f4a7c15;
    EXPECT_EQ(wrong, 0u);
  }
  const Expected<Buffer> all = Buffer::AllocatePartlyOnDisk(kHugePage, kHugePage, "/nowhere");
  ASSERT_TRUE(all) << all.error();  // nothing is left for the disk
  EXPECT_EQ(all->in_memory(), kHugePage);
}

TEST(Buffer, NamesTheFolderThatCannotTakeIt) {
  const auto error = [](const std::string& folder, size_t bytes) {
    const Expected<Buffer> buffer = Buffer::AllocatePartlyOnDisk(bytes, 0, folder);
    return buffer ? "no error" : buffer.error().message();
  };
  EXPECT_THAT(error("/nowhere", 1), HasSubstr("/nowhere: No such file"));
  if (const std::string folder = DiskFolder(); !folder.empty()) {
    EXPECT_THAT(error(folder, size_t{1} << 60), HasSubstr("no room for"));
  }
  if (std::filesystem::exists("/dev/shm")) {
    EXPECT_THAT(error("/dev/shm", 1), HasSubstr("/dev/shm: lies in memory"));
  }
}

TEST(Buffer, MovesAndRefusesTheImpossible) {
  Expected<Buffer> a = Buffer::Allocate(1);
  ASSERT_TRUE(a);
  void* const data = a->data();
  Buffer b = std::move(*a);
  EXPECT_EQ(b.data(), data);
  Buffer c;
  c = std::move(b);
  EXPECT_EQ(c.data(), data);
  EXPECT_EQ(c.size(), kHugePage);

  const Expected<Buffer> huge = Buffer::Allocate(SIZE_MAX - 5);
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code(), StatusCode::kResourceExhausted);
  const Expected<Buffer> beyond = Buffer::Allocate(size_t{1} << 50);  // beyond the address space
  ASSERT_FALSE(beyond);
  EXPECT_EQ(beyond.error().code(), StatusCode::kResourceExhausted);
}

class MappedFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "mapped_file_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  std::string folder_;
};

TEST_F(MappedFileTest, ShowsTheBytesAndSurvivesHints) {
  std::string text(10000, 'x');
  text[9999] = 'y';
  const std::string path = Write("data", text);
  Expected<MappedFile> file = MappedFile::Open(path);
  ASSERT_TRUE(file) << file.error();
  EXPECT_EQ(file->path(), path);
  ASSERT_EQ(file->bytes().size(), text.size());
  file->WillNeed(5000, 5000);
  file->DontNeed(0, 10000);
  file->WillNeed(20000, 1);
  file->DontNeed(9000, SIZE_MAX);
  EXPECT_EQ(std::string(file->bytes().begin(), file->bytes().end()), text);

  MappedFile moved = std::move(*file);
  EXPECT_EQ(moved.bytes()[9999], 'y');
  MappedFile assigned;
  assigned = std::move(moved);
  EXPECT_EQ(assigned.path(), path);
}

// The kernel's answer is a signal, where there is no page behind an address any more.
TEST_F(MappedFileTest, AFileThatShrinksEndsTheProcessWithItsName) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const std::string path = Write("shrinks", std::string(20000, 'x'));
  const auto read_shrunk = [&] {
    ReportBusErrors();
    const Expected<MappedFile> first = MappedFile::Open(path);
    MappedFile second = std::move(*MappedFile::Open(path));  // named wherever it has moved
    if (truncate(path.c_str(), 5000) != 0) std::abort();
    std::exit(second.bytes()[19000] == 'x' ? 3 : 4);
  };
  EXPECT_EXIT(read_shrunk(), testing::ExitedWithCode(1),
              "^tiercel: error: .*shrinks: became shorter or unreadable.*\n$");
}

TEST_F(MappedFileTest, OtherBusErrorsAreNotClaimed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const std::string path = Write("other", std::string(20000, 'x'));
  const auto read_unnamed = [&] {
    ReportBusErrors();
    { const Expected<MappedFile> closed = MappedFile::Open(path); }
    const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
    const char* data =
        static_cast<char*>(mmap(nullptr, 20000, PROT_READ, MAP_SHARED, file, 0));
    if (ftruncate(file, 0) != 0) std::abort();
    std::exit(data[0] == 'x' ? 3 : 4);
  };
  EXPECT_EXIT(read_unnamed(), testing::KilledBySignal(SIGBUS), "^$");
}

// A mapping that is longer than its file stands for huge pages that a limit refuses: the kernel gives
// the same signal for a touch of either.
TEST(Buffer, PopulateReportsWhatATouchWouldDieOf) {
  const int file = memfd_create("short", MFD_CLOEXEC);
  ASSERT_GE(file, 0);
  ASSERT_EQ(ftruncate(file, 8192), 0);
  void* data = mmap(nullptr, kHugePage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ASSERT_NE(data, MAP_FAILED);
  const Status status = Populate(data, kHugePage);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  munmap(data, kHugePage);
  close(file);
}

// Whatever the machine has reserved, a limit of 0 leaves none of it: the memory is there all the same.
TEST(Buffer, ALimitOnHugePagesFallsBackToOthers) {
  std::string root = testing::TempDir() + "no_huge_pages_XXXXXX";
  ASSERT_NE(mkdtemp(root.data()), nullptr);
  for (const auto& [name, text] : std::map<std::string, std::string>{
           {"proc/self/cgroup", "0::/"},
           {"proc/self/mountinfo", "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"},
           {"sys/fs/cgroup/hugetlb.2MB.max", "0"},
           {"sys/fs/cgroup/hugetlb.2MB.current", "0"}}) {
    const std::filesystem::path path = root + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text << '\n';
  }
  const Expected<Buffer> buffer = Buffer::Allocate(3 * kHugePage, root);
  ASSERT_TRUE(buffer) << buffer.error();
  std::memset(buffer->data(), 1, buffer->size());
  std::filesystem::remove_all(root);
}

TEST_F(MappedFileTest, NamesWhatIsWrong) {
  const Expected<MappedFile> missing = MappedFile::Open(folder_ + "/missing");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), StatusCode::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr(folder_ + "/missing"));

  const Expected<MappedFile> empty = MappedFile::Open(Write("empty", ""));
  ASSERT_FALSE(empty);
  EXPECT_THAT(empty.error().message(), HasSubstr("/empty: is empty (0 bytes)"));

  const Expected<MappedFile> folder = MappedFile::Open(folder_);
  ASSERT_FALSE(folder);
  EXPECT_THAT(folder.error().message(), HasSubstr("is not a regular file"));

  const std::string fifo = folder_ + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  ASSERT_FALSE(MappedFile::Open(fifo));  // and does not wait for a writer
}

TEST_F(MappedFileTest, NamesAMissingPermission) {
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  const std::string secret = Write("secret", "x");
  ASSERT_EQ(chmod(secret.c_str(), 0), 0);
  const Expected<MappedFile> denied = MappedFile::Open(secret);
  ASSERT_FALSE(denied);
  EXPECT_THAT(denied.error().message(), HasSubstr("permission denied"));
}

}  // namespace
}  // namespace tiercel::platform
