#include "options/option_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "options/help.h"
#include "options/json_value.h"

namespace tiercel::options {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Expected<ParsedOptions> Parse(std::vector<std::string> words) {
  return ParseOptions(ServeOptionTable(), std::move(words), 1);
}

ParsedOptions Good(std::vector<std::string> words) {
  auto parsed = Parse(std::move(words));
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message());
  return parsed ? *parsed : ParsedOptions(&ServeOptionTable());
}

std::string ErrorOf(std::vector<std::string> words) {
  auto parsed = Parse(std::move(words));
  EXPECT_FALSE(parsed);
  return parsed ? "" : parsed.error().message();
}

class TempFile {
 public:
  TempFile(const std::string& suffix, const std::string& text)
      : path_(testing::TempDir() + "options_test_" + std::to_string(::getpid()) + suffix) {
    std::ofstream(path_) << text;
  }
  ~TempFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(OptionTable, KnowsEveryFlagOnce) {
  size_t count = 0;
  for (const OptionGroup& group : ServeOptionTable().groups()) {
    for (const OptionSpec& spec : group.options) {
      ++count;
      EXPECT_EQ(ServeOptionTable().Find(spec.name()), &spec);
      EXPECT_STRNE(spec.help, "") << spec.names;
    }
  }
  EXPECT_GT(count, 290u);
}

TEST(OptionTable, DefaultsPassTheirOwnChecks) {
  for (const OptionGroup& group : ServeOptionTable().groups()) {
    for (const OptionSpec& spec : group.options) {
      if (*spec.default_value == '\0' || spec.kind == Kind::kSwitch) continue;
      const std::string flag = "--" + std::string(spec.name());
      auto parsed = Parse({flag + "=" + spec.default_value});
      EXPECT_TRUE(parsed) << flag << ": " << (parsed ? "" : parsed.error().message());
      EXPECT_TRUE(parsed && parsed->NonDefault().empty()) << flag;
    }
  }
}

TEST(OptionParser, UnderscoresPrefixesAndEqualSigns) {
  const ParsedOptions parsed =
      Good({"dir", "--max_model_len", "5500", "--max-num-b=40960", "--trust-rem", "--gpu_mem", "0.5",
            "-tp", "2", "-q=ascend"});
  EXPECT_THAT(parsed.positional(), ElementsAre("dir"));
  EXPECT_EQ(parsed.Int("max-model-len"), 5500);
  EXPECT_EQ(parsed.Int("max-num-batched-tokens"), 40960);
  EXPECT_TRUE(parsed.On("trust-remote-code"));
  EXPECT_DOUBLE_EQ(parsed.Float("gpu-memory-utilization"), 0.5);
  EXPECT_EQ(parsed.Int("tensor-parallel-size"), 2);
  EXPECT_EQ(parsed.String("quantization"), "ascend");
  EXPECT_EQ(Good({"--device-memory-utilization", "0.3"}).Float("gpu-memory-utilization"), 0.3);
}

TEST(OptionParser, SwitchesHaveANegation) {
  EXPECT_TRUE(Good({}).On("enable-prefix-caching"));
  EXPECT_FALSE(Good({"--no-enable-prefix-caching"}).On("enable-prefix-caching"));
  EXPECT_FALSE(Good({"--no-async"}).On("async-scheduling"));
  EXPECT_THAT(ErrorOf({"--enforce-eager=True"}),
              HasSubstr("argument --enforce-eager/--no-enforce-eager: ignored explicit argument"));
}

TEST(OptionParser, ListsTakeWordsUpToTheNextFlag) {
  const ParsedOptions parsed = Good({"dir", "--served-model-name", "a", "b/c", "--port", "1",
                                     "--cudagraph-capture-sizes", "1", "2", "-1"});
  EXPECT_THAT(parsed.Strings("served-model-name"), ElementsAre("a", "b/c"));
  EXPECT_THAT(parsed.Strings("cudagraph-capture-sizes"), ElementsAre("1", "2", "-1"));
  EXPECT_THAT(Good({"--allowed-origins", "[\"x\", \"y\"]"}).Strings("allowed-origins"),
              ElementsAre("x", "y"));
  EXPECT_THAT(Good({}).Strings("allowed-methods"), ElementsAre("*"));
}

TEST(OptionParser, DottedKeysMergeIntoJson) {
  EXPECT_EQ(Good({"--compilation-config.cudagraph_mode", "FULL"}).String("compilation-config"),
            R"({"cudagraph_mode":"FULL"})");
  EXPECT_EQ(Good({"-cc.pass_config.enable_sp=true", "-cc.cudagraph_capture_sizes+", "1,2",
                  "-cc.cudagraph_capture_sizes+", "8"})
                .String("compilation-config"),
            R"({"pass_config":{"enable_sp":true},"cudagraph_capture_sizes":[1,2,8]})");
  EXPECT_EQ(Good({"-cc.a", "1", "--compilation-config", R"({"b": 2, "a": 0})"})
                .String("compilation-config"),
            R"({"b":2,"a":1})");
  EXPECT_EQ(Good({"--compilation_config.cudagraph_mode", "NONE"}).String("compilation-config"),
            R"({"cudagraph_mode":"NONE"})");
  EXPECT_THAT(ErrorOf({"--port.x", "1"}), HasSubstr("argument --port: takes no dotted key"));
}

TEST(OptionParser, OptimizationLevels) {
  EXPECT_EQ(Good({"-O3"}).Int("optimization-level"), 3);
  EXPECT_EQ(Good({"-O", "1"}).Int("optimization-level"), 1);
  EXPECT_EQ(Good({"-O=0"}).Int("optimization-level"), 0);
  EXPECT_EQ(Good({"-O.cudagraph_mode", "FULL"}).String("compilation-config"),
            R"({"cudagraph_mode":"FULL"})");
}

TEST(OptionParser, TheLastOfARepeatedFlagWinsWithAWarning) {
  const ParsedOptions parsed = Good({"--port", "1", "--port", "2"});
  EXPECT_EQ(parsed.Int("port"), 2);
  EXPECT_THAT(parsed.warnings(), ElementsAre(HasSubstr("duplicate flag --port")));
}

TEST(OptionParser, ErrorsAreArgparses) {
  EXPECT_EQ(ErrorOf({"dir", "--frobnicate", "3"}), "unrecognized arguments: --frobnicate 3");
  EXPECT_EQ(ErrorOf({"a", "b"}), "unrecognized arguments: b");
  EXPECT_EQ(ErrorOf({"--max-num-batched-tokens", "x"}),
            "argument --max-num-batched-tokens: invalid int value: 'x'");
  EXPECT_EQ(ErrorOf({"--port"}), "argument --port: expected one argument");
  EXPECT_EQ(ErrorOf({"--port", "--host", "x"}), "argument --port: expected one argument");
  EXPECT_EQ(ErrorOf({"--served-model-name"}),
            "argument --served-model-name: expected at least one argument");
  EXPECT_EQ(ErrorOf({"--scheduling-policy", "lifo"}),
            "argument --scheduling-policy: invalid choice: 'lifo' (choose from 'fcfs', "
            "'priority')");
  EXPECT_THAT(ErrorOf({"--max-num", "3"}),
              HasSubstr("ambiguous option: --max-num could match --max-num-batched-tokens"));
}

TEST(OptionParser, BadJsonNamesFlagAndPosition) {
  for (const char* flag : {"--compilation-config", "--additional-config", "--hf-overrides"}) {
    const std::string message = ErrorOf({flag, "{\"a\": 1,}"});
    EXPECT_THAT(message, HasSubstr(std::string("argument ") + flag));
    EXPECT_THAT(message, HasSubstr("line 1, column 9"));
    EXPECT_THAT(ErrorOf({flag, "[1]"}), HasSubstr("expected an object"));
  }
  EXPECT_FALSE(Parse({"--hf-overrides", std::string(100'000, '[')}));
}

TEST(OptionParser, ConfigFileGivesWayToTheCommandLine) {
  const TempFile file(".yaml",
                      "model: some/model\nport: 9001\nserved_model_name: [a, b]\n"
                      "trust-remote-code: true\nenable-prefix-caching: false\n"
                      "disable-log-stats: false\nhost: \"12\"\n"
                      "compilation-config:\n  cudagraph_mode: FULL\n  cudagraph_capture_sizes: [1, 2]\n"
                      "max-model-len: 8k\n");
  const ParsedOptions parsed =
      Good({"--config", file.path(), "--port", "9002", "-cc.cudagraph_mode", "NONE"});
  EXPECT_EQ(parsed.Int("port"), 9002);
  EXPECT_EQ(parsed.String("model"), "some/model");
  EXPECT_THAT(parsed.Strings("served-model-name"), ElementsAre("a", "b"));
  EXPECT_TRUE(parsed.On("trust-remote-code"));
  EXPECT_FALSE(parsed.On("enable-prefix-caching"));
  EXPECT_FALSE(parsed.On("disable-log-stats"));
  EXPECT_EQ(parsed.String("host"), "12");
  EXPECT_EQ(parsed.Int("max-model-len"), 8000);
  EXPECT_EQ(parsed.String("compilation-config"),
            R"({"cudagraph_mode":"NONE","cudagraph_capture_sizes":[1,2]})");
  EXPECT_TRUE(parsed.warnings().empty());
}

TEST(OptionParser, ConfigFileErrorsNameTheFile) {
  const TempFile broken(".yaml", "port: [1\nx");
  EXPECT_THAT(ErrorOf({"--config", broken.path()}), HasSubstr(broken.path() + ":"));
  const TempFile unknown("_b.yaml", "frobnicate: 1\n");
  EXPECT_THAT(ErrorOf({"--config=" + unknown.path()}), HasSubstr("unrecognized arguments"));
  const TempFile other(".txt", "port: 1\n");
  EXPECT_THAT(ErrorOf({"--config", other.path()}), HasSubstr("must be of a yaml/yml type"));
  EXPECT_THAT(ErrorOf({"--config", "/nowhere/x.yaml"}), HasSubstr("/nowhere/x.yaml"));
}

TEST(OptionParser, ConfigFilesAreBounded) {
  std::string bomb = "hf-overrides:\n  b0: &a0 [x, x]\n";
  for (int i = 1; i <= 25; ++i) bomb += fmt::format("  b{}: &a{} [*a{}, *a{}]\n", i, i, i - 1, i - 1);
  std::string wide = "hf-overrides:\n  a: &a \"" + std::string(1000, 'x') + "\"\n  k: [*a";
  for (int i = 0; i < 5000; ++i) wide += ", *a";
  for (const std::string& text : {bomb, wide + "]\n"}) {
    const TempFile file(".yaml", text);
    EXPECT_THAT(ErrorOf({"--config", file.path()}), HasSubstr("hf-overrides: found more than 65536 values"));
  }
  const TempFile loop(".yaml", "hf-overrides: &a {x: [*a, *a, *a]}\n");
  EXPECT_THAT(ErrorOf({"--config", loop.path()}), HasSubstr("nested deeper than 32"));
  const TempFile many(".yaml", "served-model-name: [" + std::string(2 * 70'000, ',').replace(0, 1, "a") + "]\n");
  EXPECT_FALSE(Parse({"--config", many.path()}));
  const TempFile large(".yaml", "port: 1\n#" + std::string(1 << 20, 'x'));
  EXPECT_THAT(ErrorOf({"--config", large.path()}), HasSubstr("found more than 1048576 bytes"));
  const TempFile deep(".yaml", "hf-overrides: " + std::string(100'000, '['));
  EXPECT_THAT(ErrorOf({"--config", deep.path()}), HasSubstr(deep.path() + ":1: nested deeper than 32"));
  const TempFile anchors(".yaml", "served-model-name: &names [a, b]\nlora-modules: *names\nhost: &h x\n");
  EXPECT_THAT(Good({"--config", anchors.path()}).Strings("served-model-name"), ElementsAre("a", "b"));
}

TEST(OptionParser, ConfigFilesAreOneDocument) {
  for (const char* text : {"port: 9\n---\nhost: x\n", "port: 9\n...\nhost: x\n", "port: 9\n...\n---\nhost: x\n",
                           "---\nport: 9\n---\n", "port: 9\n--- x\n", "---\n---\nport: 9\n", "port: 9\n---\nhost: [\n"}) {
    const TempFile file(".yaml", text);
    EXPECT_THAT(ErrorOf({"--config", file.path()}), HasSubstr(file.path() + ":")) << text;
  }
  for (const char* text : {"---\nport: 9\n", "# a\n---\nport: 9\n...\n", "%YAML 1.1\n---\nport: 9\n...\n# b\n"}) {
    const TempFile file(".yaml", text);
    EXPECT_EQ(Good({"--config", file.path()}).Int("port"), 9) << text;
  }
}

TEST(OptionParser, ConfigFilesAreUtf8) {
  for (const std::string& text : {std::string("host: ä\nport: 9\nname: \xe4\n"), std::string("\xff\xfep\0", 4),
                                  std::string("port: 9\n\x04\nhost: x\n"), std::string("port: 9\n\0host: x\n", 17)}) {
    const TempFile file(".yaml", text);
    EXPECT_THAT(ErrorOf({"--config", file.path()}), HasSubstr(file.path() + ":")) << text;
  }
  const TempFile file(".yaml", "\xef\xbb\xbfhost: \"ä → 😀\"\r\nport:\t9\r\n");
  EXPECT_EQ(Good({"--config", file.path()}).String("host"), "ä → 😀");
}

TEST(OptionParser, BooleansOfConfigFilesArePythons) {
  const auto prefix_caching = [](const std::string& line) {
    const TempFile file(".yaml", line + "\n");
    return Good({"--config", file.path()}).String("enable-prefix-caching");
  };
  for (const char* word : {"yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"}) {
    EXPECT_EQ(prefix_caching(std::string("enable-prefix-caching: ") + word), "True");
    EXPECT_EQ(prefix_caching(std::string("no_enable_prefix_caching: ") + word), "False");
  }
  for (const char* word : {"no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"}) {
    EXPECT_EQ(prefix_caching(std::string("enable_prefix_caching: ") + word), "False");
    EXPECT_EQ(prefix_caching(std::string("no-enable-prefix-caching: ") + word), "True");
  }
  const TempFile file(".yaml", "ui: off\ntrust-remote-code: on\ndisable-log-stats: no\nhost: \"no\"\n"
                               "hf-overrides: {a: yes, b: Off, c: 'on', d: !!str no, e: y, f: ~}\n"
                               "compilation-config.x: off\n");
  const ParsedOptions parsed = Good({"--config", file.path()});
  EXPECT_FALSE(parsed.On("ui"));
  EXPECT_TRUE(parsed.On("trust-remote-code"));
  EXPECT_FALSE(parsed.On("disable-log-stats"));
  EXPECT_EQ(parsed.String("host"), "no");
  EXPECT_EQ(parsed.String("hf-overrides"), R"({"a":true,"b":false,"c":"on","d":"no","e":"y","f":null})");
  EXPECT_EQ(parsed.String("compilation-config"), R"({"x":false})");
}

TEST(OptionParser, ABooleanOfAConfigFileThatIsNoneNamesFileLineAndKey) {
  for (const auto& [line, part] : {std::pair{"ui: 'false'", "ui: found \"false\" in quotes, expected true or false"},
                                   {"ui: 1", "ui: found \"1\", expected true or false"},
                                   {"trust_remote_code: y", "trust_remote_code: found \"y\", expected true or false"},
                                   {"disable-log-stats: [true]", "disable-log-stats: found a list, expected true or false"},
                                   {"no-ui: {a: b}", "no-ui: found a map"},
                                   {"host: off", "host: found off, which YAML reads as false; put it into quotes"}}) {
    const TempFile file(".yaml", "port: 9\n" + std::string(line) + "\n");
    EXPECT_THAT(ErrorOf({"--config", file.path()}), HasSubstr(file.path() + ":2: " + part));
  }
  const TempFile unknown(".yaml", "no-frobnicate: false\n");
  EXPECT_THAT(ErrorOf({"--config", unknown.path()}), HasSubstr("unrecognized arguments: --no-frobnicate"));
}

TEST(OptionParser, ConfigFilesAreRegularFiles) {
  const std::string path = testing::TempDir() + "options_test_" + std::to_string(::getpid()) + "_fifo.yaml";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(ErrorOf({"--config", path}), HasSubstr(path + ": the config file is no regular file"));
  ::unlink(path.c_str());
  ASSERT_EQ(::mkdir(path.c_str(), 0700), 0);
  EXPECT_THAT(ErrorOf({"--config", path}), HasSubstr("is no regular file"));
  ::rmdir(path.c_str());
}

TEST(OptionParser, ReprIsPythons) {
  const ParsedOptions parsed = Good({"--max-model-len", "1k", "--served-model-name", "a", "b",
                                     "--no-enable-chunked-prefill", "--host", "0.0.0.0"});
  std::string all;
  for (const OptionSpec* spec : parsed.NonDefault()) all += parsed.Repr(*spec) + " ";
  EXPECT_EQ(all, "1000 ['a', 'b'] False '0.0.0.0' ");
}

TEST(Help, IsMadeFromTheTable) {
  const CommandHelp command{"tiercel serve [model_tag] [options]", "Serves.", ""};
  const OptionTable& table = ServeOptionTable();
  EXPECT_THAT(RenderHelp(table, command, "listgroup"), HasSubstr("SchedulerConfig"));
  EXPECT_THAT(RenderHelp(table, command, "schedulerconfig"), HasSubstr("--max-num-seqs"));
  EXPECT_THAT(RenderHelp(table, command, "max-num-seqs"), HasSubstr("Most sequences"));
  EXPECT_THAT(RenderHelp(table, command, "max_num_seqs"), HasSubstr("Most sequences"));
  EXPECT_THAT(RenderHelp(table, command, "nonsense"), HasSubstr("No group or parameter"));
  const std::string all = RenderHelp(table, command, "all");
  for (const OptionGroup& group : table.groups()) {
    for (const OptionSpec& spec : group.options) {
      EXPECT_THAT(all, HasSubstr("--" + std::string(spec.name())));
    }
  }
}

}  // namespace
}  // namespace tiercel::options
