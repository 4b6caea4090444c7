// Weights that a start maps are those that it would pack.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "checkpoint/checkpoint.h"
#include "model/weights.h"

namespace tiercel::model {
namespace {

namespace fs = std::filesystem;

class PackedWeightsTest : public testing::Test {
 protected:
  PackedWeightsTest() {
    std::string name = testing::TempDir() + "/packed-XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~PackedWeightsTest() override {
    std::error_code error;
    fs::remove_all(folder_, error);
  }

  WeightOptions Keeping(WeightOptions options = {}) const {
    options.packed = {folder_ + "/below/model", "files"};
    return options;
  }
  std::string File(int rank = 0) const { return folder_ + "/below/model-0-" + std::to_string(rank) + ".packed"; }

  static std::unique_ptr<checkpoint::Checkpoint> Open(const std::string& model) {
    auto checkpoint = checkpoint::Checkpoint::Open(std::string(TIERCEL_TEST_DATA) + "/" + model);
    EXPECT_TRUE(checkpoint.has_value()) << checkpoint.error();
    return std::move(*checkpoint);
  }

  static std::vector<Weights> Load(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options, int workers = 2,
                                   int ranks = 1) {
    auto team = platform::WorkerTeam::Create(
        {.cpus = std::vector<int>(static_cast<size_t>(workers), 0), .ranks = ranks, .pin = false});
    EXPECT_TRUE(team.has_value()) << team.error();
    auto weights = LoadRanks(checkpoint, options, **team, [](int64_t done, int64_t total) { EXPECT_LE(done, total); });
    EXPECT_TRUE(weights.has_value()) << weights.error();
    return std::move(*weights);
  }

  // A mapped buffer has no memory of its own.
  static bool IsMapped(const Weights& weights) { return weights.buffer.in_memory() == 0; }

  static void ExpectSame(const Linear& a, const Linear& b) {
    ASSERT_EQ(a.weight.n, b.weight.n);
    const auto bytes = static_cast<size_t>(a.weight.Offset(a.weight.n));
    EXPECT_EQ(std::memcmp(a.weight.data, b.weight.data, bytes), 0);
    EXPECT_EQ(a.acc_bias, b.acc_bias);
    EXPECT_EQ(a.scale, b.scale);
    EXPECT_EQ(a.bias, b.bias);
    ASSERT_EQ(a.more.size(), b.more.size());
    for (size_t i = 0; i < a.more.size(); ++i) ExpectSame(a.more[i], b.more[i]);
  }
  static void ExpectSame(const Weights& a, const Weights& b) {
    ASSERT_EQ(a.layers.size(), b.layers.size());
    for (size_t i = 0; i < a.layers.size(); ++i) {
      ExpectSame(a.layers[i].qkv, b.layers[i].qkv);
      ExpectSame(a.layers[i].o, b.layers[i].o);
      ExpectSame(a.layers[i].gate_up, b.layers[i].gate_up);
      ExpectSame(a.layers[i].down, b.layers[i].down);
    }
    ExpectSame(a.lm_head, b.lm_head);
    EXPECT_EQ(a.bytes, b.bytes);
    EXPECT_EQ(a.bytes_in_memory, b.bytes_in_memory);
  }

  std::string folder_;
};

// Packed, then mapped, as they are without any file; of BF16, of INT8 with what is summed aside, of few bits.
TEST_F(PackedWeightsTest, TheSecondStartMapsWhatTheFirstPacked) {
  struct Case {
    const char* model;
    checkpoint::QuantizeTo quantize;
  };
  for (const Case& c : {Case{"models/qwen3-tied", checkpoint::QuantizeTo::kNone}, Case{"models/qwen3-tied", checkpoint::QuantizeTo::kInt8},
                        Case{"models/qwen3-tied", checkpoint::QuantizeTo::kInt4}}) {
    SCOPED_TRACE(testing::Message() << c.model << " " << static_cast<int>(c.quantize));
    const auto checkpoint = Open(c.model);
    WeightOptions options;
    options.quantize = c.quantize;
    const auto plain = Load(*checkpoint, options);
    const auto first = Load(*checkpoint, Keeping(options));
    EXPECT_FALSE(IsMapped(first[0]));
    ExpectSame(first[0], plain[0]);
    const auto second = Load(*checkpoint, Keeping(options));
    EXPECT_TRUE(IsMapped(second[0]));
    ExpectSame(second[0], plain[0]);
  }
}

TEST_F(PackedWeightsTest, EachRankHasItsOwnFile) {
  const auto checkpoint = Open("models/qwen3-tied");
  const auto plain = Load(*checkpoint, {}, 2, 2);
  Load(*checkpoint, Keeping(), 2, 2);
  const auto mapped = Load(*checkpoint, Keeping(), 2, 2);
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_TRUE(IsMapped(mapped[static_cast<size_t>(rank)]));
    ExpectSame(mapped[static_cast<size_t>(rank)], plain[static_cast<size_t>(rank)]);
  }
  // One of them gone, all are packed: sums of INT8 weights are not counted twice.
  WeightOptions int8;
  int8.quantize = checkpoint::QuantizeTo::kInt8;
  const auto plain8 = Load(*checkpoint, int8, 2, 2);
  Load(*checkpoint, Keeping(int8), 2, 2);
  fs::remove(File(1));
  const auto again = Load(*checkpoint, Keeping(int8), 2, 2);
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_FALSE(IsMapped(again[static_cast<size_t>(rank)]));
    ExpectSame(again[static_cast<size_t>(rank)], plain8[static_cast<size_t>(rank)]);
  }
}

// What was packed of other files, for other workers or with other options is not taken, but replaced.
TEST_F(PackedWeightsTest, OfSomethingElseIsPackedAnew) {
  const auto checkpoint = Open("models/qwen3-tied");
  const auto plain = Load(*checkpoint, {}, 3);
  Load(*checkpoint, Keeping(), 2);
  WeightOptions of_changed_files = Keeping();
  of_changed_files.packed.model = "changed files";
  WeightOptions of_shares = Keeping();
  of_shares.shares = {2, 1, 1};
  for (const WeightOptions& options : {Keeping(), of_changed_files, of_shares}) {
    const auto packed = Load(*checkpoint, options, 3);
    EXPECT_FALSE(IsMapped(packed[0]));
    if (options.shares.empty()) ExpectSame(packed[0], plain[0]);
    EXPECT_TRUE(IsMapped(Load(*checkpoint, options, 3)[0]));
  }
  WeightOptions int8 = of_shares;
  int8.quantize = checkpoint::QuantizeTo::kInt8;
  EXPECT_FALSE(IsMapped(Load(*checkpoint, int8, 3)[0]));
}

// Whatever stands in the file's place: it is never believed.
TEST_F(PackedWeightsTest, AFileThatIsNotWholeIsReplaced) {
  const auto checkpoint = Open("models/qwen3-tied");
  const auto plain = Load(*checkpoint, {});
  Load(*checkpoint, Keeping());
  const auto size = fs::file_size(File());
  for (const uintmax_t length : {uintmax_t{0}, uintmax_t{7}, uintmax_t{40}, uintmax_t{5000}, size - 1, size + 1}) {
    SCOPED_TRACE(length);
    fs::resize_file(File(), length);
    const auto packed = Load(*checkpoint, Keeping());
    EXPECT_FALSE(IsMapped(packed[0]));
    ExpectSame(packed[0], plain[0]);
    EXPECT_EQ(fs::file_size(File()), size);
    EXPECT_TRUE(IsMapped(Load(*checkpoint, Keeping())[0]));
  }
  for (const std::streamoff at : {0, 9, 17, 25, 32, 300}) {  // the header and the key
    SCOPED_TRACE(at);
    std::fstream file(File(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at);
    file.put('\xff');
    file.close();
    EXPECT_FALSE(IsMapped(Load(*checkpoint, Keeping())[0]));
  }
  fs::remove(File());
  ASSERT_EQ(mkfifo(File().c_str(), 0600), 0);  // has no writer, and is no file
  const auto packed = Load(*checkpoint, Keeping());
  EXPECT_FALSE(IsMapped(packed[0]));
  EXPECT_TRUE(fs::is_regular_file(File()));
}

// Weights that cannot be kept are loaded all the same, and no part of a file stays.
TEST_F(PackedWeightsTest, AFolderThatCannotBeWrittenCostsNothingElse) {
  const auto checkpoint = Open("models/qwen3-tied");
  const auto plain = Load(*checkpoint, {});
  std::ofstream(folder_ + "/below") << "a file where the folder would be";
  ExpectSame(Load(*checkpoint, Keeping())[0], plain[0]);
  fs::remove(folder_ + "/below");
  fs::create_directories(File());  // a folder where the file would be
  ExpectSame(Load(*checkpoint, Keeping())[0], plain[0]);
  EXPECT_FALSE(fs::exists(File() + ".part"));
}

// Kept files are believed for as long as their number says so (kMagic in packed_file.cc). If the packed form changes, this fails: raise the number,
// then take the new sum over.
TEST_F(PackedWeightsTest, ThePackedFormIsThatOfItsNumber) {
  const auto checkpoint = Open("models/qwen3-tied");
  uint64_t sum = 14695981039346656037u;  // FNV-1a
  for (const auto quantize : {checkpoint::QuantizeTo::kNone, checkpoint::QuantizeTo::kInt8, checkpoint::QuantizeTo::kInt4}) {
    WeightOptions options;
    options.quantize = quantize;
    Load(*checkpoint, Keeping(options));
    std::ifstream file(File(), std::ios::binary);
    file.seekg(2 << 20);  // behind the header
    for (std::istreambuf_iterator<char> byte(file), end; byte != end; ++byte) {
      sum = (sum ^ static_cast<unsigned char>(*byte)) * 1099511628211u;
    }
  }
  EXPECT_EQ(sum, 10780336506136145190u);
}

// A crash leaves .part; it is written over.
TEST_F(PackedWeightsTest, APartOfAnEarlierWriteIsWrittenOver) {
  const auto checkpoint = Open("models/qwen3-tied");
  fs::create_directories(folder_ + "/below");
  std::ofstream(File() + ".part") << std::string(1 << 20, 'x');
  Load(*checkpoint, Keeping());
  EXPECT_FALSE(fs::exists(File() + ".part"));
  const auto mapped = Load(*checkpoint, Keeping());
  EXPECT_TRUE(IsMapped(mapped[0]));
  ExpectSame(mapped[0], Load(*checkpoint, {})[0]);
}

}  // namespace
}  // namespace tiercel::model
