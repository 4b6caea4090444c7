#include "hub/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace tiercel::hub {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<HubFile> Files(const std::vector<std::string>& names) {
  std::vector<HubFile> files;
  for (const std::string& name : names) files.push_back({name, 1, "", ""});
  return files;
}

std::vector<std::string> Names(const Expected<std::vector<HubFile>>& files) {
  std::vector<std::string> names;
  if (!files) return {files.error().message()};
  for (const HubFile& file : *files) names.push_back(file.path);
  return names;
}

TEST(HubId, TellsIdsFromPaths) {
  EXPECT_EQ(ParseHubId("Qwen/Qwen3-0.6B")->repository, "Qwen/Qwen3-0.6B");
  EXPECT_EQ(ParseHubId("gpt2")->repository, "gpt2");
  EXPECT_EQ(ParseHubId("a/b:Q4_K_M")->variant, "Q4_K_M");
  for (const char* text : {"", "/abs/path", "./x", "../x", "a/b/c", "model.gguf", "a b/c", "a/..",
                           "a/b:../c", "a//b"}) {
    EXPECT_FALSE(ParseHubId(text)) << text;
  }
}

TEST(HubFiles, SafetensorsGoBeforeGguf) {
  EXPECT_THAT(Names(SelectFiles(Files({"config.json", "model-00001-of-00002.safetensors",
                                       "model-00002-of-00002.safetensors", "x.gguf", "README.md",
                                       "consolidated.safetensors", "original/params.json",
                                       "tokenizer.json", "chat_template.jinja"}),
                                {"a/b", ""}, true)),
              ElementsAre("config.json", "tokenizer.json", "chat_template.jinja",
                          "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"));
}

TEST(HubFiles, OneGgufOfSeveralMustBeNamed) {
  const auto files = Files({"m-Q4_K_M.gguf", "m-Q8_0.gguf", "config.json"});
  EXPECT_THAT(Names(SelectFiles(files, {"a/b", "q8_0"}, true)),
              ElementsAre("config.json", "m-Q8_0.gguf"));
  EXPECT_THAT(Names(SelectFiles(files, {"a/b", ""}, true)), ElementsAre(HasSubstr("name one")));
  EXPECT_THAT(Names(SelectFiles(files, {"a/b", "Q2"}, true)), ElementsAre(HasSubstr("variant 'Q2'")));
  EXPECT_THAT(Names(SelectFiles(Files({"config.json"}), {"a/b", ""}, true)),
              ElementsAre(HasSubstr("no .safetensors or .gguf")));
}

TEST(HubFiles, ATokenizerAloneNeedsNoWeights) {
  EXPECT_THAT(Names(SelectFiles(Files({"tokenizer.json", "model.safetensors", "m.gguf"}),
                                {"a/b", ""}, false)),
              ElementsAre("tokenizer.json"));
}

TEST(HubFiles, WhatACopyLacks) {
  const std::string dir = testing::TempDir() + "hub_files_test_" + std::to_string(::getpid());
  std::filesystem::create_directories(dir);
  const auto touch = [&](const std::string& name) { std::ofstream(dir + "/" + name) << "x"; };
  EXPECT_EQ(MissingFile(dir, false), "");
  EXPECT_EQ(MissingFile(dir, true), ".safetensors or .gguf file");
  touch("model-00001-of-00003.safetensors");
  touch("model-00003-of-00003.safetensors");
  EXPECT_EQ(MissingFile(dir, true), "model-00002-of-00003.safetensors");
  touch("model-00002-of-00003.safetensors");
  EXPECT_EQ(MissingFile(dir, true), "");
  std::filesystem::create_symlink("../blobs/none", dir + "/config.json");
  EXPECT_EQ(MissingFile(dir, true), "config.json");
  std::filesystem::remove_all(dir);
}

TEST(HubFiles, BlobNamesAreHashesOrPlainNames) {
  EXPECT_EQ(BlobName({"a.bin", 1, std::string(64, 'a'), ""}, "c"), std::string(64, 'a'));
  EXPECT_EQ(BlobName({"a.bin", 1, "", std::string(40, 'b')}, "c"), std::string(40, 'b'));
  EXPECT_EQ(BlobName({"x/a.bin", 1, "../../evil", ""}, "c"), "c-x-a.bin");
}

TEST(HubFiles, ModelScopeSpellsDots) {
  EXPECT_EQ(ModelScopeFolder("/c", "Qwen/Qwen3-0.6B"), "/c/models/Qwen/Qwen3-0___6B");
}

}  // namespace
}  // namespace tiercel::hub
