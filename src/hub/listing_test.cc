#include "hub/listing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tiercel::hub {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const std::string kCommit(40, 'c');
const std::string kSha256(64, 'a');
const std::string kSha1(40, 'b');

Expected<Listing> HuggingFace(const json& answer) {
  return ParseHuggingFaceListing(answer.dump(), "URL");
}
Expected<Listing> ModelScope(const json& files) {
  return ParseModelScopeListing(json{{"Data", {{"Files", files}}}}.dump(), "v1", "URL");
}
json Siblings(const json& list) { return {{"sha", kCommit}, {"siblings", list}}; }

// One listing of both hubs for each name.
std::vector<std::string> ErrorsOf(const std::vector<std::string>& names, const json& size = 1) {
  json siblings = json::array(), files = json::array();
  for (const std::string& name : names) {
    siblings.push_back({{"rfilename", name}, {"size", size}});
    files.push_back({{"Path", name}, {"Size", size}, {"Type", "blob"}});
  }
  std::vector<std::string> errors;
  for (const auto& listing : {HuggingFace(Siblings(siblings)), ModelScope(files)}) {
    errors.push_back(listing ? "" : listing.error().message());
  }
  return errors;
}

TEST(Listing, OfHuggingFace) {
  // As the API's documentation shows it; "oid" is how the tree route names the same hash.
  const auto listing = HuggingFace(Siblings(
      {{{"rfilename", "config.json"}, {"size", 7}, {"blobId", kSha1}},
       {{"rfilename", "a/b.safetensors"},
        {"size", 130},
        {"blobId", kSha1},
        {"lfs", {{"sha256", std::string(64, 'A')}, {"size", 5'000'000'000}, {"pointerSize", 134}}}},
       {{"rfilename", "c.gguf"}, {"lfs", {{"oid", kSha256}, {"size", 1}}}},
       {{"rfilename", "plain.txt"}}}));
  ASSERT_TRUE(listing) << listing.error();
  EXPECT_EQ(listing->commit, kCommit);
  ASSERT_EQ(listing->files.size(), 4u);
  EXPECT_EQ(listing->files[0].git_sha1, kSha1);
  EXPECT_EQ(listing->files[0].size, 7);
  EXPECT_EQ(listing->files[1].sha256, kSha256);
  EXPECT_EQ(listing->files[1].git_sha1, "");  // the pointer's
  EXPECT_EQ(listing->files[1].size, 5'000'000'000);
  EXPECT_EQ(listing->files[2].sha256, kSha256);
  EXPECT_EQ(listing->files[3].size, -1);
}

TEST(Listing, OfModelScope) {
  const auto listing =
      ModelScope({{{"Path", "a.json"}, {"Size", 7}, {"Sha256", kSha256}, {"Type", "blob"}},
                  {{"Path", "folder"}, {"Size", 0}, {"Type", "tree"}}});
  ASSERT_TRUE(listing) << listing.error();
  EXPECT_EQ(listing->commit, "v1");
  ASSERT_EQ(listing->files.size(), 1u);
  EXPECT_EQ(listing->files[0].sha256, kSha256);
}

TEST(Listing, HostileNamesAreRefused) {
  for (const std::string name :
       {"", ".", "..", "../x.json", "a/../../x.json", "/etc/passwd", "a//b.json", "a/", "a\\..\\b.json",
        "a\nb.json", "\x1b[2Ja.json", "a\x7f.json", "~\r.json"}) {
    for (const std::string& error : ErrorsOf({"config.json", name})) {
      EXPECT_THAT(error, HasSubstr("URL: lists a file")) << name;
      EXPECT_EQ(error.find('\n'), error.npos);
      EXPECT_EQ(error.find('\x1b'), error.npos);
    }
  }
  for (const std::string& name : {std::string(256, 'a'), std::string(600, 'b') + ".json"}) {
    for (const std::string& error : ErrorsOf({name})) EXPECT_LT(error.size(), 250u);
  }
  std::string deep = "a";
  for (int i = 0; i < 600; ++i) deep += "/a";
  for (const std::string& error : ErrorsOf({deep})) EXPECT_NE(error, "");
  // A name may look odd and yet be plain.
  for (const std::string& error : ErrorsOf({"a..b.json", "...", "é 客.json", "-rf"})) {
    EXPECT_EQ(error, "");
  }
}

TEST(Listing, ANameComesOnce) {
  for (const std::string& error : ErrorsOf({"a.json", "b.json", "a.json"})) {
    EXPECT_THAT(error, HasSubstr("'a.json' twice"));
  }
}

TEST(Listing, SizesAreSizes) {
  for (const json& size : {json(-1), json(1.5), json(1e30), json("7"), json::array(),
                           json(uint64_t{1} << 63), json(int64_t{65} << 40)}) {
    for (const std::string& error : ErrorsOf({"a.json"}, size)) {
      EXPECT_THAT(error, HasSubstr("the size of 'a.json'")) << size;
    }
  }
  // Each fits, their sum does not.
  for (const std::string& error : ErrorsOf({"a", "b", "c"}, int64_t{30} << 40)) {
    EXPECT_THAT(error, HasSubstr("the size of 'c'"));
  }
}

TEST(Listing, CountsAreBounded) {
  std::vector<std::string> names;
  for (int i = 0; i < 10'001; ++i) names.push_back(std::to_string(i));
  for (const std::string& error : ErrorsOf(names)) EXPECT_THAT(error, HasSubstr("10001 files"));
  names.pop_back();
  for (const std::string& error : ErrorsOf(names)) EXPECT_EQ(error, "");

  const std::string many = R"({"siblings":[)" + std::string(2'000'000, '[');
  EXPECT_FALSE(ParseHuggingFaceListing(many, "URL"));
  std::string zeros = R"({"siblings":[0)";
  for (int i = 0; i < 1'000'000; ++i) zeros += ",0";
  EXPECT_THAT(ParseHuggingFaceListing(zeros + "]}", "URL").error().message(),
              HasSubstr("more than 500000 values"));
  EXPECT_THAT(ParseHuggingFaceListing(std::string((16 << 20) + 1, ' '), "URL").error().message(),
              HasSubstr("at most 16777216"));
}

TEST(Listing, OtherAnswersAreNone) {
  for (const char* text : {"", "<html>Log in</html>", "[]", "null", "{}", R"({"sha":"x"})",
                           R"({"Data":[]})", R"({"Data":{"Files":{}}})", R"({"siblings":{}})"}) {
    EXPECT_FALSE(ParseHuggingFaceListing(text, "URL")) << text;
    EXPECT_FALSE(ParseModelScopeListing(text, "v1", "URL")) << text;
  }
  EXPECT_FALSE(HuggingFace({{"sha", "../../evil"}, {"siblings", json::array()}}));
  EXPECT_FALSE(HuggingFace(Siblings({1, "a", nullptr})));
}

}  // namespace
}  // namespace tiercel::hub
