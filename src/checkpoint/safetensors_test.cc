// Checkpoints in safetensors files, whole and broken.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors_header.h"

namespace tiercel::checkpoint {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

constexpr char kConfig[] = R"({"architectures":["LlamaForCausalLM"],"hidden_size":4,
  "num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":8,"vocab_size":16})";

std::string WithLength(const std::string& header) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header;
}

std::string File(const std::string& header, size_t data_bytes) {
  return WithLength(header) + std::string(data_bytes, '\1');
}

template <typename T>
std::string Bytes(std::initializer_list<T> values) {
  return std::string(reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T));
}

std::string Entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  size_t begin, size_t end) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":[)" + shape +
         R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

std::string HeaderError(const std::string& file) {
  const auto header = ParseSafetensorsHeader(
      {reinterpret_cast<const uint8_t*>(file.data()), file.size()}, "f.safetensors");
  if (header) return "no error";
  EXPECT_EQ(header.error().message().find('\n'), std::string::npos);
  return header.error().message();
}

TEST(SafetensorsHeader, AcceptsTheFormat) {
  const std::string good = "{\"__metadata__\":{\"format\":\"pt\"}," +
                           Entry("b", "F32", "2,2", 8, 24) + "," + Entry("a", "BF16", "4", 0, 8) +
                           "," + Entry("none", "F16", "0,3", 8, 8) + "," +
                           Entry("one", "I64", "", 24, 32) + "}   ";
  const std::string file = File(good, 32);
  const auto header =
      ParseSafetensorsHeader({reinterpret_cast<const uint8_t*>(file.data()), file.size()}, "f");
  ASSERT_TRUE(header) << header.error();
  ASSERT_EQ(header->size(), 4u);
  EXPECT_EQ(header->at("b").begin, 8 + good.size() + 8);
  EXPECT_THAT(header->at("b").shape, ElementsAre(2, 2));
  EXPECT_EQ(HeaderError(File("{}", 0)), "no error");
}

TEST(SafetensorsHeader, RefusesLies) {
  const auto one = [](const std::string& entry, size_t data) {
    return HeaderError(File("{" + entry + "}", data));
  };
  EXPECT_THAT(one(Entry("a", "BF16", "4", 0, 8), 7),
              AllOf(HasSubstr("is truncated: found"), HasSubstr("the download is incomplete")));
  EXPECT_THAT(one(Entry("a", "BF16", "4", 0, 8), 9), HasSubstr("1 bytes follow the last tensor"));
  EXPECT_THAT(one(Entry("a", "BF16", "4", 0, 10), 10),
              HasSubstr("tensor \"a\": found 10 bytes for BF16 [4], expected 8"));
  EXPECT_THAT(one(Entry("a", "BF99", "4", 0, 8), 8), HasSubstr("expected a known dtype"));
  EXPECT_THAT(one(Entry("a", "BF16", "1099511627776,1099511627776", 0, 8), 8),
              HasSubstr("a possible size"));
  EXPECT_THAT(one(Entry("a", "BF16", "0,1099511627776,1099511627776", 0, 0), 0),
              HasSubstr("a possible size"));
  EXPECT_THAT(one(Entry("a", "BF16", "99999999999999", 0, 8), 8), HasSubstr("the dimension"));
  EXPECT_THAT(one(Entry("a", "BF16", "1,1,1,1,1,1,1,1,1", 0, 2), 2), HasSubstr("dimensions"));
  EXPECT_THAT(one(Entry("a", "BF16", "-4", 0, 8), 8), HasSubstr("a negative number"));
  EXPECT_THAT(one(Entry("a", "BF16", "4.5", 0, 8), 8), HasSubstr("a fraction"));
  EXPECT_THAT(one(Entry("a", "BF16", "4", 8, 0), 8), HasSubstr("data_offsets"));
  EXPECT_THAT(one(Entry("a", "BF16", "4", 2, 10), 10), HasSubstr("leave a gap"));
  EXPECT_THAT(one(Entry("a", "BF16", "4", 0, 8) + "," + Entry("b", "BF16", "4", 4, 12), 12),
              HasSubstr("overlap"));
  EXPECT_THAT(one(Entry("a", "BF16", "4", 0, 8) + "," + Entry("a", "BF16", "4", 8, 16), 16),
              HasSubstr("the name twice"));
  EXPECT_THAT(one(R"("a":{"shape":[4],"data_offsets":[0,8]})", 8), HasSubstr("no dtype"));
  EXPECT_THAT(one(R"("a":{"dtype":"BF16","shape":[4],"data_offsets":[0]})", 8),
              HasSubstr("data_offsets"));
  EXPECT_THAT(one(R"("a":[1])", 8), HasSubstr("a list where none belongs"));
  EXPECT_THAT(one(R"("a":7)", 8), HasSubstr("a number where none belongs"));
  EXPECT_THAT(one(R"("a":{"b":{"c":{}}})", 8), HasSubstr("an object where none belongs"));
  EXPECT_THAT(HeaderError(File("[1]", 0)), HasSubstr("a list where none belongs"));
  EXPECT_THAT(HeaderError(File("{\"a", 0)), HasSubstr("invalid JSON"));
  EXPECT_THAT(HeaderError(File(std::string(100000, '['), 0)), HasSubstr("a list"));
  EXPECT_THAT(one(Entry("a\\nb", "BF\\u001b", "4", 0, 8), 8),
              HasSubstr(R"(tensor "a\nb": found 8 bytes for BF\x1b [4])"));
  EXPECT_THAT(one(Entry("a", "U8", "18446744073709551615", 0, 8), 8), HasSubstr("the dimension"));
}

TEST(SafetensorsHeader, NamesWhatTheFileReallyIs) {
  EXPECT_EQ(HeaderError("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n"
                        "size 1503300328\n"),
            "f.safetensors: is not a safetensors file (75 bytes): this is a Git LFS pointer, not "
            "the file itself (expected 1503300328 bytes); run `git lfs pull` or download it again");
  EXPECT_THAT(HeaderError("<!DOCTYPE html><html><body>Not found</body></html>"),
              HasSubstr("this is an HTML page"));
  EXPECT_THAT(HeaderError("\n <HTML>"), HasSubstr("this is an HTML page"));
  EXPECT_THAT(HeaderError(std::string(4096, '\0')), HasSubstr("only zero bytes"));
  EXPECT_THAT(HeaderError(std::string("PK\x03\x04\0\0\0\0\0\0", 10)), HasSubstr("ZIP archive"));
  EXPECT_THAT(HeaderError(std::string("GGUF\3\0\0\0\0\0\0\0", 12)), HasSubstr("GGUF"));
  EXPECT_THAT(HeaderError("abc"), HasSubstr("is not a safetensors file (3 bytes)"));
  EXPECT_THAT(HeaderError(WithLength(std::string(100, ' ')).substr(0, 50)),
              HasSubstr("is truncated: found 50 bytes, expected more than 108"));
}

class Folder : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "checkpoint_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    Write("config.json", kConfig);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Write(const std::string& name, const std::string& contents) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << contents;
  }
  Expected<std::unique_ptr<Checkpoint>> Open() { return Checkpoint::Open(folder_); }
  std::string Error() {
    const auto checkpoint = Open();
    if (checkpoint) return "no error";
    EXPECT_EQ(checkpoint.error().message().find('\n'), std::string::npos);
    return checkpoint.error().message();
  }
  void WriteShards(const std::string& index) {
    Write(
        "model-00001-of-00002.safetensors",
        WithLength("{" + Entry("a", "BF16", "2", 0, 4) + "}") + Bytes<uint16_t>({0x3f80, 0x4000}));
    Write("model-00002-of-00002.safetensors",
          WithLength("{" + Entry("b", "F32", "1", 0, 4) + "}") + Bytes<float>({3}));
    if (!index.empty()) Write("model.safetensors.index.json", index);
  }

  std::string folder_;
};

constexpr char kIndex[] = R"({"metadata":{"total_size":8},"weight_map":{
  "a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}})";

TEST_F(Folder, ReadsEveryFloatType) {
  const float big = 3.4e38f;  // rounds to infinity in BF16
  Write("model.safetensors",
        WithLength("{" + Entry("bf16", "BF16", "2,2", 0, 8) + "," +
                   Entry("f16", "F16", "6", 8, 20) + "," + Entry("f32", "F32", "3,2", 20, 44) +
                   "," + Entry("i8", "I8", "2", 44, 46) + "}") +
            Bytes<uint16_t>({0x3f80, 0x4000, 0x4040, 0x4080}) +
            Bytes<uint16_t>({0x3c00, 0x0001, 0x8000, 0x7c00, 0xfbff, 0x7e01}) +
            Bytes<float>({1, 1.00390625f, -1.01171875f, big, 0.1f, 1e-40f}) + "xy");
  const auto opened = Open();
  ASSERT_TRUE(opened) << opened.error();
  const Checkpoint& c = **opened;
  EXPECT_EQ(c.config().hidden_size, 4);
  EXPECT_EQ(c.gguf_tokenizer(), nullptr);
  EXPECT_THAT(c.Names(), ElementsAre("bf16", "f16", "f32", "i8"));
  EXPECT_EQ(c.FileBytes(), static_cast<int64_t>(fs::file_size(folder_ + "/model.safetensors")));
  ASSERT_TRUE(c.Find("f32"));
  EXPECT_EQ(c.Find("f32")->type, "F32");
  EXPECT_THAT(c.Find("f32")->shape, ElementsAre(3, 2));
  EXPECT_FALSE(c.Find("nope"));

  float f[6];
  ASSERT_TRUE(c.ReadRows("bf16", 1, 2, f).ok());
  EXPECT_EQ(f[0], 3);
  EXPECT_EQ(f[1], 4);
  ASSERT_TRUE(c.ReadRows("f16", 0, 6, f).ok());
  EXPECT_EQ(f[0], 1);
  EXPECT_EQ(f[1], 0x1p-24f);
  EXPECT_TRUE(f[2] == 0 && std::signbit(f[2]));
  EXPECT_EQ(f[3], std::numeric_limits<float>::infinity());
  EXPECT_EQ(f[4], -65504);
  EXPECT_TRUE(std::isnan(f[5]));
  BF16 h[6];
  ASSERT_TRUE(c.ReadRows("f32", 0, 3, h).ok());
  EXPECT_EQ(h[0].bits, 0x3f80);
  EXPECT_EQ(h[1].bits, 0x3f80);  // a tie goes to the even neighbor
  EXPECT_EQ(h[2].bits, 0xbf82);
  EXPECT_EQ(h[3].bits, 0x7f80);
  EXPECT_EQ(h[4].bits, 0x3dcd);
  ASSERT_TRUE(c.ReadRows("f16", 5, 6, h).ok());
  EXPECT_TRUE(std::isnan(ToFloat(h[0])));

  EXPECT_NE(c.MappedBF16("bf16"), nullptr);
  EXPECT_EQ(c.MappedBF16("bf16")[3].bits, 0x4080);
  EXPECT_EQ(c.MappedBF16("f32"), nullptr);
  c.WillNeed("f32");
  c.DontNeed("f32");
  ASSERT_TRUE(c.ReadRows("f32", 2, 3, f).ok());
  EXPECT_EQ(f[0], 0.1f);

  EXPECT_THAT(c.ReadRows("i8", 0, 1, f).message(), HasSubstr("found dtype I8, expected BF16"));
  EXPECT_THAT(c.ReadRows("nope", 0, 1, f).message(), HasSubstr("tensor \"nope\" is missing"));
  EXPECT_EQ(c.ReadRows("nope", 0, 1, f).code(), StatusCode::kNotFound);
  EXPECT_FALSE(c.ReadRows("bf16", 0, 3, f).ok());
  EXPECT_FALSE(c.ReadRows("bf16", -1, 1, f).ok());
}

// The loops that Convert vectorizes agree with the plain definitions on all 2¹⁶ halves.
TEST_F(Folder, ConvertsEveryHalf) {
  std::string data(2 << 16, '\0');
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint16_t half = static_cast<uint16_t>(i);
    std::memcpy(data.data() + 2 * i, &half, 2);
  }
  Write("model.safetensors", WithLength("{" + Entry("h", "F16", "65536", 0, 131072) + "}") + data);
  const auto c = Open();
  ASSERT_TRUE(c) << c.error();
  std::vector<float> f(65536);
  std::vector<BF16> b(65536);
  ASSERT_TRUE((*c)->ReadRows("h", 0, 65536, f.data()).ok());
  ASSERT_TRUE((*c)->ReadRows("h", 0, 65536, b.data()).ok());
  for (uint32_t i = 0; i < 65536; ++i) {
    const float expected = HalfToFloat(static_cast<uint16_t>(i));
    ASSERT_EQ(std::bit_cast<uint32_t>(f[i]), std::bit_cast<uint32_t>(expected)) << i;
    ASSERT_EQ(b[i], ToBF16(expected)) << i;
  }
}

TEST_F(Folder, ReadsShards) {
  WriteShards(kIndex);
  auto c = Open();
  ASSERT_TRUE(c) << c.error();
  EXPECT_THAT((*c)->Names(), ElementsAre("a", "b"));
  float b = 0;
  ASSERT_TRUE((*c)->ReadRows("b", 0, 1, &b).ok());
  EXPECT_EQ(b, 3);
  fs::remove(folder_ + "/model.safetensors.index.json");
  c = Open();
  ASSERT_TRUE(c) << c.error();  // complete, though the index is gone
  EXPECT_THAT((*c)->Names(), ElementsAre("a", "b"));
}

TEST_F(Folder, NamesMissingAndForeignShards) {
  WriteShards(kIndex);
  fs::remove(folder_ + "/model-00002-of-00002.safetensors");
  EXPECT_EQ(Error(), folder_ +
                         "/model-00002-of-00002.safetensors: missing shard, listed in "
                         "model.safetensors.index.json: 1 of 2 files are not there; the "
                         "download is incomplete");
  fs::remove(folder_ + "/model.safetensors.index.json");
  EXPECT_THAT(Error(), HasSubstr("missing shards: model-00001-of-00002.safetensors says that there "
                                 "are 2, found 1"));
  WriteShards(R"({"weight_map":{"a":"model-00002-of-00002.safetensors"}})");
  EXPECT_THAT(Error(), HasSubstr("says that model-00002-of-00002.safetensors holds tensor \"a\", "
                                 "which is not there"));
  WriteShards(R"({"weight_map":{"a":"../../etc/passwd"}})");
  EXPECT_THAT(Error(), HasSubstr("expected the name of a file in the same folder"));
  WriteShards(R"({"weight_map":{}})");
  EXPECT_THAT(Error(), HasSubstr("weight_map: found {}"));
  WriteShards("version https://git-lfs.github.com/spec/v1\nsize 5\n");
  EXPECT_THAT(Error(), HasSubstr("index.json: is not valid JSON (50 bytes): this is a Git LFS"));
}

TEST_F(Folder, NamesBrokenWeightFiles) {
  const std::string good = File("{" + Entry("a", "BF16", "64", 0, 128) + "}", 128);
  Write("model.safetensors", good);
  EXPECT_EQ(Error(), "no error");
  Write("model.safetensors", good.substr(0, good.size() - 50));
  EXPECT_EQ(Error(), fmt::format("{}/model.safetensors: is truncated: found {} bytes, expected {}; "
                                 "the download is incomplete",
                                 folder_, good.size() - 50, good.size()));
  Write("model.safetensors", "");
  EXPECT_THAT(Error(), HasSubstr("model.safetensors: is empty (0 bytes)"));
  Write("model.safetensors", "version https://git-lfs.github.com/spec/v1\nsize 99\n");
  EXPECT_THAT(Error(), HasSubstr("(expected 99 bytes)"));
  fs::remove(folder_ + "/model.safetensors");
  fs::create_directory(folder_ + "/model.safetensors");
  EXPECT_THAT(Error(), HasSubstr("is not a regular file"));
}

TEST_F(Folder, NamesUnreadableFiles) {
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  Write("model.safetensors", File("{}", 0));
  fs::permissions(folder_ + "/model.safetensors", fs::perms::none);
  EXPECT_THAT(Error(), HasSubstr("permission denied"));
}

TEST_F(Folder, NamesWhatIsNotAModel) {
  EXPECT_THAT(Error(), HasSubstr("holds no weights: found config.json, expected *.safetensors"));
  Write("pytorch_model.bin", "x");
  EXPECT_THAT(Error(), EndsWith("; convert the PyTorch files to safetensors"));
  Write("config.json", R"({"architectures":["Qwen3MoeForCausalLM"],"model_type":"qwen3_moe"})");
  EXPECT_THAT(Error(), HasSubstr("architectures: found [\"Qwen3MoeForCausalLM\"], expected one of "
                                 "the supported ones: Qwen3ForCausalLM"));
  fs::remove(folder_ + "/pytorch_model.bin");
  fs::remove(folder_ + "/config.json");
  EXPECT_THAT(Error(), HasSubstr("holds no weights: found nothing"));
  Write("model.safetensors", File("{}", 0));
  EXPECT_THAT(Error(), HasSubstr("config.json: no such file"));
  EXPECT_EQ(Checkpoint::Open("Qwen/none").error().code(), StatusCode::kNotFound);
  EXPECT_THAT(Checkpoint::Open(folder_ + "/model.safetensors").error().message(),
              HasSubstr("expected a model's folder or a .gguf file"));
  Write("a.gguf", "x");
  Write("b.gguf", "x");
  fs::remove(folder_ + "/model.safetensors");
  EXPECT_THAT(Error(), HasSubstr("found 2 .gguf files, expected one"));
}

TEST_F(Folder, RefusesTensorsThatTheConfigurationDoesNotExpect) {
  const std::string name = "model.layers.0.self_attn.q_proj.bias";
  Write("model.safetensors", File("{" + Entry(name, "BF16", "4", 0, 8) + "}", 8));
  EXPECT_THAT(Error(), HasSubstr("found tensor \"" + name + "\", expected none by attention_bias"));
}

TEST_F(Folder, AppliesOverridesAndGenerationDefaults) {
  Write("model.safetensors", File("{}", 0));
  Write("generation_config.json", R"({"temperature":0.6,"eos_token_id":[1,2]})");
  const auto c = Checkpoint::Open(folder_ + "/", R"({"max_position_embeddings":77})");
  ASSERT_TRUE(c) << c.error();
  EXPECT_EQ((*c)->config().max_position_embeddings, 77);
  EXPECT_EQ((*c)->generation_config().temperature, 0.6);
  Write("generation_config.json", "{");
  EXPECT_THAT(Error(), HasSubstr("generation_config.json: is not valid JSON"));
}

}  // namespace
}  // namespace tiercel::checkpoint
