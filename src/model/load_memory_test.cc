// What loading and running a model takes beside weights and KV cache in use: file pages must go as
// they are read, and activations must not grow with max_num_batched_tokens.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "checkpoint/dummy_checkpoint.h"
#include "model/load_model.h"
#include "model/step_parts.h"
#include "platform/sysfs.h"

namespace tiercel::model {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr const char* kConfig = R"({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3",
  "hidden_size": 512, "num_hidden_layers": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
  "head_dim": 128, "intermediate_size": 2048, "vocab_size": 1000, "rms_norm_eps": 1e-6,
  "max_position_embeddings": 40960, "tie_word_embeddings": true, "torch_dtype": "bfloat16"})";

int64_t StatusField(const char* key) {
  return platform::FindIntField(platform::ReadTextFile("/proc/self/status").value_or(""), key)
             .value_or(0) << 10;
}

// The peak of resident memory since this object was made, above what was resident then.
class PeakMemory {
 public:
  PeakMemory() {
    std::ofstream("/proc/self/clear_refs") << "5";  // the peak becomes what is resident now
    before_ = StatusField("VmRSS:");
  }
  int64_t bytes() const { return StatusField("VmHWM:") - before_; }

 private:
  int64_t before_ = 0;
};

// A folder whose safetensors file is a hole behind its header: every weight is zero.
class SparseModel {
 public:
  SparseModel() {
    std::string name = (fs::temp_directory_path() / "sparse_model_XXXXXX").string();
    path_ = ::mkdtemp(name.data());
    std::ofstream(path_ / "config.json") << kConfig;
    const auto shapes = checkpoint::OpenDummyCheckpoint(path_.string(), "", 0);
    EXPECT_TRUE(shapes.has_value()) << shapes.error();
    int64_t size = 0;
    std::string header;
    for (const std::string& tensor : (*shapes)->Names()) {
      const std::vector<int64_t> shape = (*shapes)->Find(tensor)->shape;
      int64_t bytes = 2;
      std::string dims;
      for (const int64_t n : shape) {
        bytes *= n;
        dims += (dims.empty() ? "" : ",") + std::to_string(n);
      }
      header += (header.empty() ? "{\"" : ",\"") + tensor + "\":{\"dtype\":\"BF16\",\"shape\":[" +
                dims + "],\"data_offsets\":[" + std::to_string(size) + "," +
                std::to_string(size + bytes) + "]}";
      size += bytes;
    }
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    const uint64_t length = header.size();
    const fs::path file = path_ / "model.safetensors";
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(&length), 8)
        .write(header.data(), static_cast<std::streamsize>(header.size()));
    fs::resize_file(file, 8 + length + size);
  }
  ~SparseModel() { fs::remove_all(path_); }
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

// One prefill of `rows` tokens of one sequence.
void Prefill(CausalLm* lm, int64_t rows) {
  std::vector<int32_t> tokens(rows, 1), positions(rows), blocks;
  for (int64_t i = 0; i < rows; ++i) positions[i] = static_cast<int32_t>(i);
  for (int64_t i = 0; i * 128 < rows; ++i) blocks.push_back(static_cast<int32_t>(i + 1));
  const std::vector<int32_t> query_start{0, static_cast<int32_t>(rows)};
  const std::vector<int32_t> context{static_cast<int32_t>(rows)};
  const std::vector<int32_t> logit_rows{static_cast<int32_t>(rows - 1)};
  const int32_t* const table = blocks.data();
  const Status status =
      lm->Run({.token_ids = tokens,
           .sampled = {},
           .positions = positions,
           .query_start = query_start,
           .context_len = context,
           .block_tables = {&table, 1},
           .logit_rows = logit_rows},
          [](const LogitGroup&, int) {});
  EXPECT_TRUE(status.ok()) << status;
}

TEST(LoadMemoryTest, WeightsAndCacheInUseAndLittleElse) {
#ifdef TIERCEL_SANITIZED
  GTEST_SKIP() << "sanitizers keep memory of their own";
#endif
  auto environment = kernels::Environment::Create({.threads = 2, .isa = "", .pin = false});
  ASSERT_TRUE(environment.has_value()) << environment.error();
  const SparseModel model;
  const PeakMemory peak;
  std::unique_ptr<CausalLm> lm;
  {
    const auto checkpoint = checkpoint::Checkpoint::Open(model.path());
    ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error();
    auto loaded = LoadModel(**checkpoint, {}, environment->get(), [](int64_t, int64_t) {});
    ASSERT_TRUE(loaded.has_value()) << loaded.error();
    lm = std::move(*loaded);
  }
  const int64_t weights = lm->WeightBytes();
  ASSERT_GT(weights, 100 * kMiB);  // else the bounds below would not see a second copy
  EXPECT_LT(peak.bytes(), weights + 24 * kMiB);

  // A cache of many more blocks than are used, and a step of more rows than activations hold.
  const RunLimits limits{.max_rows = 40960, .max_seqs = 128, .logit_group_rows = 192};
  ASSERT_TRUE(lm->Prepare({.num_blocks = 1 + 40960 / 128 * 4, .block_size = 128}, limits).ok());
  EXPECT_LT(peak.bytes(), weights + 24 * kMiB);
  const int64_t rows = kStepRows + 100;
  Prefill(lm.get(), rows);
  const int64_t cache = (rows + 127) / 128 * lm->KvBlockBytes(128);
  EXPECT_LT(peak.bytes(), weights + cache + 48 * kMiB);
}

}  // namespace
}  // namespace tiercel::model
