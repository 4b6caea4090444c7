// What a grammar allows is asked of a vocabulary of single bytes and some longer tokens; the expected
// texts are those of the grammar's definition.
#include "text/grammar.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "text/gbnf.h"

namespace tiercel::text {
namespace {

class Grammars : public ::testing::Test {
 protected:
  Grammars() {
    auto tokenizer = Tokenizer::Load(std::string(TIERCEL_TEST_DATA) + "/tiny-qwen3");
    EXPECT_TRUE(tokenizer);
    tokenizer_ = *tokenizer;
    vocab_size_ = tokenizer_->vocab_size() + 7;  // the logits may have more than the tokenizer
    end_ = *tokenizer_->eos();
    compiler_ = std::make_unique<GrammarCompiler>(tokenizer_, vocab_size_, std::vector<int32_t>{end_});
  }

  std::vector<uint32_t> Words() const {
    return std::vector<uint32_t>(static_cast<size_t>(vocab_size_ + 31) / 32);
  }
  static bool Has(const std::vector<uint32_t>& mask, int32_t token) {
    return (mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1) != 0;
  }

  // How many tokens of the text are taken, and whether the text may end behind all of them.
  struct Taken {
    size_t tokens = 0;
    bool all = false;
    bool may_end = false;
  };
  Taken Take(const Grammar& grammar, const std::string& text) {
    const std::vector<int32_t> ids = *tokenizer_->Encode(text, false);
    auto matcher = grammar.Start();
    std::vector<uint32_t> mask = Words();
    Taken taken;
    for (const int32_t id : ids) {
      EXPECT_EQ(matcher->Mask(mask), OkStatus());
      if (!Has(mask, id)) return taken;
      EXPECT_EQ(matcher->Accept(id), OkStatus());
      ++taken.tokens;
    }
    taken.all = true;
    EXPECT_EQ(matcher->Mask(mask), OkStatus());
    taken.may_end = Has(mask, end_);
    return taken;
  }

  void Check(GrammarKind kind, const std::string& source, const std::vector<std::string>& good,
             const std::vector<std::string>& bad) {
    auto grammar = compiler_->Compile({kind, source});
    ASSERT_TRUE(grammar) << source << ": " << grammar.error();
    for (const std::string& text : good) {
      const Taken taken = Take(**grammar, text);
      EXPECT_TRUE(taken.all && taken.may_end) << source << " refuses " << text << " at " << taken.tokens;
    }
    for (const std::string& text : bad) {
      const Taken taken = Take(**grammar, text);
      EXPECT_FALSE(taken.all && taken.may_end) << source << " takes " << text;
    }
  }

  void CheckGbnf(const std::string& source, const std::vector<std::string>& good,
                 const std::vector<std::string>& bad) {
    ASSERT_TRUE(IsGbnf(source));
    auto lark = GbnfToLark(source);
    ASSERT_TRUE(lark) << lark.error();
    Check(GrammarKind::kLark, *lark, good, bad);
  }

  std::string Error(GrammarKind kind, const std::string& source) {
    auto grammar = compiler_->Compile({kind, source});
    return grammar ? "" : grammar.error().message();
  }

  std::shared_ptr<const Tokenizer> tokenizer_;
  int64_t vocab_size_ = 0;
  int32_t end_ = 0;
  std::unique_ptr<GrammarCompiler> compiler_;
};

TEST_F(Grammars, JsonSchemas) {
  Check(GrammarKind::kJsonSchema,
        R"({"type":"object","properties":{"a":{"type":"integer","minimum":3,"maximum":20},
            "b":{"type":"string","minLength":2,"maxLength":3},"c":{"enum":["é","中"]}},
            "required":["a"],"additionalProperties":false})",
        {R"({"a":3})", R"({"a": 20, "b": "xy"})", "{\n  \"a\": 7,\n  \"c\": \"中\"\n}"},
        {"{}", R"({"a":2})", R"({"a":21})", R"({"a":3,"b":"x"})", R"({"a":3,"b":"wxyz"})",
         R"({"a":3,"c":"e"})", R"({"a":3,"d":1})", R"({"a":3)", R"([3])", R"({"a":3}})"});
  Check(GrammarKind::kJsonSchema, R"({"$defs":{"t":{"type":"array","items":{"$ref":"#/$defs/t"}}},
                                      "$ref":"#/$defs/t"})",
        {"[]", "[[],[[]]]"}, {"[1]", "[[]", "{}"});
  Check(GrammarKind::kJsonSchema, R"({"anyOf":[{"type":"null"},{"type":"boolean"}]})",
        {"null", "true"}, {"0", "nul"});
}

// JSON Schema's own test suite is not part of the source: its folder (tests/draft2020-12; also in
// jsonschema's source package) is given from outside. What is not enforced is refused, so no instance that
// is not valid is taken. Members in another order than the schema's are not taken either.
TEST_F(Grammars, TakeWhatTheOfficialSuiteSaysIsValid) {
  const char* dir = std::getenv("TIERCEL_JSON_SCHEMA_SUITE");
  if (dir == nullptr) GTEST_SKIP() << "TIERCEL_JSON_SCHEMA_SUITE does not name a folder";
  using Json = nlohmann::ordered_json;
  int refused = 0, compiled = 0, taken = 0, valid = 0;
  for (const auto& file : std::filesystem::directory_iterator(dir)) {
    if (file.path().extension() != ".json") continue;
    std::ifstream in(file.path());
    for (const Json& group : Json::parse(in)) {
      auto grammar = compiler_->Compile({GrammarKind::kJsonSchema, group["schema"].dump()});
      ++(grammar ? compiled : refused);
      if (!grammar) continue;
      for (const Json& test : group["tests"]) {
        const Taken got = Take(**grammar, test["data"].dump());
        const bool is_valid = test["valid"].get<bool>();
        valid += is_valid;
        taken += got.all && got.may_end;
        EXPECT_TRUE(is_valid || !got.all || !got.may_end)
            << file.path() << ": " << group["schema"] << " takes " << test["data"];
      }
    }
  }
  std::cout << compiled << " schemas, " << refused << " refused; of " << valid << " valid instances "
            << taken << " taken\n";
  EXPECT_GT(compiled, 100);
  EXPECT_GT(taken, valid * 9 / 10);
}

TEST_F(Grammars, RegularExpressions) {
  Check(GrammarKind::kRegex, R"([a-c]+\.(com|org)/?)", {"abc.com", "a.org/"},
        {"abd.com", "a.", "xa.com", "a.com//"});
  Check(GrammarKind::kRegex, "中+|é", {"中", "中中", "é"}, {"", "e", "中é"});
}

TEST_F(Grammars, Lark) {
  Check(GrammarKind::kLark, "start: expr\nexpr: /[0-9]+/ | \"(\" expr \"+\" expr \")\"",
        {"12", "(1+2)", "((1+2)+3)"}, {"", "(1+2", "1+2", "(1+)"});
  Check(GrammarKind::kLark, R"(start: "yes" | "yes please" | "no")", {"yes", "yes please", "no"},
        {"", "ye", "yes ", "maybe"});
}

TEST_F(Grammars, Gbnf) {
  CheckGbnf("root ::= greeting \" \" name-1 # a comment\n"
            "greeting ::= \"hi\" |\n  \"hello\"\n"
            "name-1 ::= [A-Z] [^A-Z.\\n]{1,3} (\"!\" | \"?\")*\n",
            {"hi Abc", "hello Zo!?!"}, {"hi abc", "hey Abc", "hi A", "hi Abcde", "hi Abc."});
  CheckGbnf("root ::= list\nlist ::= \"[\" (item (\",\" item)*)? \"]\"\nitem ::= list | [0-9]+ | \"\\x41\\u4e2d\\\"\"",
            {"[]", "[1,22,[A中\"]]"}, {"[1,]", "[", "[A]"});
  CheckGbnf("root ::= . \"\" [é-ü\\-\\]]", {"xü", "\n-", "中]"}, {"x", "xz", "xüü"});
  CheckGbnf("root ::= \"a\"{0} \"b\" (\"c\" | \"d\"){0,0} \"e\"{0,1} \"f\"{0,10}", {"b", "be", "bff"}, {"ab", "bc", "bee"});
  EXPECT_TRUE(IsGbnf("\n # x\n  root   ::= \"a\""));
  EXPECT_FALSE(IsGbnf("start: \"x ::= y\" | \"root ::= z\"\n"));
  Check(GrammarKind::kLark, "start: \"x ::= y\"", {"x ::= y"}, {"x"});
  const auto error = [](const char* gbnf) {
    const auto lark = GbnfToLark(gbnf);
    return lark ? "" : lark.error().message();
  };
  EXPECT_EQ(error("root ::= a"), "rule `a` is used and not defined");
  EXPECT_EQ(error("a ::= \"x\""), "there is no rule `root`");
  EXPECT_EQ(error("root ::= \"x\"\nroot ::= \"y\""), "line 2: rule `root` is defined twice");
  EXPECT_EQ(error("root ::= \"x\n"), "line 2: a literal has no end, or an escape that is not known");
  EXPECT_EQ(error("root ::= (\"x\""), "line 1: expected `)`");
  EXPECT_EQ(error("root ::= \"x\" )"), "line 1: expected a rule's name");
  EXPECT_EQ(error("root ::= [z-a]"), "line 1: a class of characters has a range that is none");
  EXPECT_EQ(error("root ::= \"x\"{a}"), "line 1: expected `{m}`, `{m,}` or `{m,n}`");
  EXPECT_EQ(error(("root ::= " + std::string(1000, '(')).c_str()),
            "line 1: nested deeper than 64 levels");
}

// Behind the end there is nothing but ends, however often they are taken.
TEST_F(Grammars, TheEndStays) {
  auto grammar = compiler_->Compile({GrammarKind::kRegex, "a"});
  ASSERT_TRUE(grammar);
  auto matcher = (*grammar)->Start();
  EXPECT_FALSE(matcher->ended());
  std::vector<uint32_t> mask = Words();
  ASSERT_EQ(matcher->Mask(mask), OkStatus());
  EXPECT_FALSE(Has(mask, end_));
  ASSERT_EQ(matcher->Accept((*tokenizer_->Encode("a", false))[0]), OkStatus());
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(matcher->Mask(mask), OkStatus());
    for (int32_t t = 0; t < vocab_size_; ++t) EXPECT_EQ(Has(mask, t), t == end_) << t;
    EXPECT_TRUE(matcher->ended());
    ASSERT_EQ(matcher->Accept(end_), OkStatus());
  }
}

// Special tokens are no text: no grammar of text allows them.
TEST_F(Grammars, SpecialTokensAreNoText) {
  auto grammar = compiler_->Compile({GrammarKind::kRegex, "(?s:.*)"});
  ASSERT_TRUE(grammar);
  std::vector<uint32_t> mask = Words();
  ASSERT_EQ((*grammar)->Start()->Mask(mask), OkStatus());
  int special = 0;
  for (int32_t t = 0; t < tokenizer_->vocab_size(); ++t) {
    if (!tokenizer_->IsSpecial(t)) continue;
    ++special;
    EXPECT_EQ(Has(mask, t), t == end_) << t;
  }
  EXPECT_GT(special, 2);
}

// Bounds that no double or no 64 bits hold are drawn inwards; values that have to be exact are exact or refused.
TEST_F(Grammars, NumbersOfSchemas) {
  const auto check = [this](const char* schema, const std::vector<std::string>& good, const std::vector<std::string>& bad) {
    Check(GrammarKind::kJsonSchema, schema, good, bad);
  };
  check(R"({"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807})",
        {"0", "-9223372036854774784", "9223372036854774784", "123"},
        {"9223372036854775808", "-9223372036854775809", "10000000000000000000"});
  check(R"({"type":"integer","minimum":-9223372036854775808})", {"-1", "99999999999999999999"}, {"-9223372036854775809"});
  check(R"({"type":"integer","maximum":18446744073709551615})", {"9223372036854774784"}, {"18446744073709551616"});
  check(R"({"type":"integer","minimum":9007199254740993})", {"9007199254740994"}, {"9007199254740992"});
  check(R"({"type":"integer","minimum":9223372036854774700,"maximum":1e300})", {"9223372036854774784"}, {"9223372036854774699"});
  check(R"({"type":"integer","minimum":9223372036854773000,"maximum":1e300})", {"9223372036854773760"}, {"9223372036854772736"});
  check(R"({"type":"integer","minimum":-1e300,"maximum":-9223372036854773000})", {"-9223372036854773760"}, {"-9223372036854772736"});
  check(R"({"type":"integer","maximum":9007199254740993})", {"9007199254740992"}, {"9007199254740994"});
  check(R"({"type":"integer","exclusiveMinimum":-9007199254740993,"maximum":0})", {"-9007199254740991"},
        {"-9007199254740993", "-9007199254740994"});
  check(R"({"type":"number","minimum":0,"maximum":1e20})", {"0", "1.5", "9223372036854774784"}, {"-1", "200000000000000000000"});
  check(R"({"type":"number","minimum":0.123456789012345678,"maximum":0.9999999999999999999})",
        {"0.1234567890123457", "0.5"}, {"0.123456789012345", "1"});
  check(R"({"type":"number","minimum":-0.1,"maximum":0.1})", {"-0.1", "0.1", "0"}, {"0.11"});
  check(R"({"type":"number","exclusiveMinimum":0,"exclusiveMaximum":0.5})", {"0.1", "0.49"}, {"0", "0.0", "-0", "0.5"});
  check(R"({"type":"number","exclusiveMinimum":2,"maximum":2.5})", {"2.1", "2.5"}, {"2", "2.0", "2.6"});
  check(R"({"type":"number","minimum":-0.5,"exclusiveMaximum":0})", {"-0.1", "-0.5"}, {"0", "-0", "-0.6"});
  check(R"({"type":"number","exclusiveMinimum":0})", {"0.1", "5", "0.000000001"}, {"0", "0.0", "-1"});
  check(R"({"enum":[9007199254740992,0.1,-1.50,1e3]})", {"9007199254740992", "0.1", "-1.5", "1000"}, {"9007199254740993"});
  check(R"({"type":"object","properties":{"minimum":{"const":3}},"required":["minimum"],"additionalProperties":false})",
        {R"({"minimum":3})"}, {R"({"minimum":4})"});
  check(R"({"type":"string","minLength":2.0,"maxLength":3e0})", {R"("ab")", R"("abc")"}, {R"("a")", R"("abcd")"});
  check(R"({"type":"integer","multipleOf":360})", {"0", "720"}, {"100"});
  Check(GrammarKind::kLark, "start: \"<\" %json {\"type\":\"integer\",\"minimum\":-9223372036854775808,\"maximum\":7} \">\"",
        {"<7>", "<-9223372036854774784>"}, {"<8>", "<-9223372036854775809>"});
  for (const char* number : {"1234567890123456789", "9007199254740993", "12345678901234567890", "0.12345678901234567891",
                             "1e400", "9223372036854775807"}) {
    EXPECT_NE(Error(GrammarKind::kJsonSchema, fmt::format(R"({{"enum":[1,[{}]]}})", number))
                  .find("cannot be told apart"), std::string::npos) << number;
    EXPECT_NE(Error(GrammarKind::kJsonSchema, fmt::format(R"({{"const":{{"a":{}}}}})", number)), "") << number;
  }
  EXPECT_NE(Error(GrammarKind::kJsonSchema, R"({"type":"integer","minimum":9223372036854775807})"), "");
  EXPECT_NE(Error(GrammarKind::kJsonSchema, R"({"type":"integer","maximum":-1e30})"), "");
  for (const char* schema : {R"({"type":"integer","multipleOf":299792458})", R"({"type":"number","multipleOf":0.0000001234567})",
                             R"({"type":"integer","multipleOf":1e30})",
                             R"({"allOf":[{"multipleOf":9973},{"multipleOf":9967}],"type":"integer"})",
                             R"({"type":"number","multipleOf":0.001,"anyOf":[{"multipleOf":997},{"multipleOf":991}]})"}) {
    EXPECT_NE(Error(GrammarKind::kJsonSchema, schema).find("remainders"), std::string::npos) << schema;
  }
}

// Every pair of odd bounds ends in a grammar or in an error, never in the process' end.
TEST_F(Grammars, OddBounds) {
  const std::vector<std::string> numbers = {
      "0", "-0", "-0.0", "1", "-1", "0.5", "-0.5", "1e-7", "-1e-300", "5e-324", "9007199254740993", "-9007199254740993",
      "9223372036854775807", "-9223372036854775807", "-9223372036854775808", "-9223372036854775809", "18446744073709551616",
      "1e19", "-1e19", "1e308", "-1e308", "1e400", "-1e400", "1e99999999999999999999", "1e-99999999999999999999"};
  for (const char* type : {"integer", "number"}) {
    for (const std::string& low : numbers) {
      for (const std::string& high : numbers) {
        Error(GrammarKind::kJsonSchema, fmt::format(R"({{"type":"{}","minimum":{},"maximum":{}}})", type, low, high));
        Error(GrammarKind::kJsonSchema,
              fmt::format(R"({{"type":"{}","exclusiveMinimum":{},"exclusiveMaximum":{}}})", type, low, high));
      }
      Error(GrammarKind::kJsonSchema, fmt::format(R"({{"type":"{}","multipleOf":{},"const":{}}})", type, low, low));
      Error(GrammarKind::kJsonSchema, fmt::format(R"({{"type":"{}","exclusiveMinimum":{}}})", type, low));
      Error(GrammarKind::kJsonSchema, fmt::format(R"({{"type":"{}","maximum":{}}})", type, low));
    }
  }
}

TEST_F(Grammars, WhatMatchesNothingIsSaidInPlainWords) {
  for (const auto& [kind, source] : {std::pair{GrammarKind::kRegex, R"([^\s\S])"}, {GrammarKind::kJsonSchema, R"({"$ref":"#"})"},
                                     {GrammarKind::kRegex, "[a&&b]"}}) {
    EXPECT_EQ(Error(kind, source), "no text matches it") << source;
  }
  for (const char* regex : {R"(\)", R"(a\)", R"(\\\)"}) {
    EXPECT_NE(Error(GrammarKind::kRegex, regex).find("ends within an escape"), std::string::npos) << regex;
  }
  Check(GrammarKind::kRegex, R"(a\\)", {R"(a\)"}, {"a"});
}

TEST_F(Grammars, WhatIsNotSupportedIsNamed) {
  EXPECT_NE(Error(GrammarKind::kJsonSchema, R"({"type":"object","if":{}})").find("if"), std::string::npos);
  EXPECT_NE(Error(GrammarKind::kJsonSchema, R"({"not":{"type":"null"}})").find("not"), std::string::npos);
  EXPECT_NE(Error(GrammarKind::kJsonSchema, R"({"type":"strin"})"), "");
  EXPECT_NE(Error(GrammarKind::kJsonSchema, "[1"), "");
  EXPECT_NE(Error(GrammarKind::kJsonSchema, R"({"$ref":"http://example.com/x"})"), "");
  EXPECT_NE(Error(GrammarKind::kJsonSchema, R"({"enum":[]})"), "");
  EXPECT_NE(Error(GrammarKind::kRegex, "(a"), "");
  EXPECT_NE(Error(GrammarKind::kRegex, "a(?=b)"), "");
  EXPECT_NE(Error(GrammarKind::kLark, "start: x"), "");
  EXPECT_NE(Error(GrammarKind::kLark, "begin: \"x\""), "");
}

// Each ends soon, with an error or with a grammar that answers; no message is long.
TEST_F(Grammars, HostileGrammarsAreRefused) {
  const auto repeated = [](std::string_view piece, int times) {
    std::string text;
    for (int i = 0; i < times; ++i) text += piece;
    return text;
  };
  std::string chain = "start: r0\n", doubling = "start: r0\n";
  for (int i = 0; i < 6000; ++i) chain += fmt::format("r{}: r{}\n", i, i + 1);
  chain += "r6000: \"x\"\n";
  for (int i = 0; i < 60; ++i) doubling += fmt::format("r{}: r{} r{}\n", i, i + 1, i + 1);
  doubling += "r60: \"x\"\n";
  std::string deep = R"({"type":"string"})";
  for (int i = 0; i < 60; ++i) deep = R"({"type":"array","items":)" + deep + "}";
  std::string wide = "{";
  for (int i = 0; i < 1200; ++i) wide += fmt::format(R"("p{}":{{"type":"string","pattern":"a{{0,900}}b"}},)", i);
  wide.back() = '}';
  const std::vector<GrammarSource> sources = {
      {GrammarKind::kRegex, repeated("(", 100'000) + repeated(")", 100'000)},
      {GrammarKind::kRegex, "(((a{1000}){1000}){1000}){1000}"},
      {GrammarKind::kRegex, "((((a?){30}){30}){30}){30}b"},
      {GrammarKind::kRegex, "(.*a.{1000})|(.*b.{999})"},
      {GrammarKind::kRegex, repeated("(x+x+)+", 50) + "y"},
      {GrammarKind::kRegex, repeated("[", 50'000)},
      {GrammarKind::kLark, "start: " + repeated("(", 60) + "\"x\"" + repeated(")", 60)},
      {GrammarKind::kLark, chain},
      {GrammarKind::kLark, doubling},
      {GrammarKind::kLark, "start: start start | \"x\""},
      {GrammarKind::kLark, "start: \"a\"{1000000000}"},
      {GrammarKind::kLark, "start: (\"a\"{0,1000}){0,1000}"},
      {GrammarKind::kLark, "start: A\nA: A"},
      {GrammarKind::kJsonSchema, deep},
      {GrammarKind::kJsonSchema, R"({"type":"object","properties":)" + wide + "}"},
      {GrammarKind::kJsonSchema, R"({"type":"string","minLength":1000000000})"},
      {GrammarKind::kJsonSchema, R"({"type":"array","items":{"type":"null"},"minItems":100000000})"},
      {GrammarKind::kJsonSchema, R"({"$ref":"#"})"},
      {GrammarKind::kJsonSchema, R"({"anyOf":[{"$ref":"#"},{"$ref":"#"}]})"},
      {GrammarKind::kJsonSchema, R"({"type":"number","multipleOf":1e-300})"},
      {GrammarKind::kJsonSchema, R"({"type":"integer","minimum":-1e308,"maximum":1e308,"multipleOf":7})"},
  };
  for (const GrammarSource& source : sources) {
    auto grammar = compiler_->Compile(source);
    if (!grammar) {
      EXPECT_LT(grammar.error().message().size(), 2000u) << source.text.substr(0, 100);
      continue;
    }
    auto matcher = (*grammar)->Start();
    std::vector<uint32_t> mask = Words();
    Status status;
    for (int i = 0; i < 100 && status.ok() && !matcher->ended(); ++i) {
      status = matcher->Mask(mask);
      if (!status.ok()) break;
      int32_t token = 0;
      while (token < vocab_size_ && !Has(mask, token)) ++token;
      ASSERT_LT(token, vocab_size_) << source.text.substr(0, 100);
      status = matcher->Accept(token);
    }
    EXPECT_LT(status.message().size(), 2000u);
  }
}

// Matchers of one grammar know nothing of each other, on any thread.
TEST_F(Grammars, MatchersAreIndependent) {
  auto grammar = compiler_->Compile({GrammarKind::kJsonSchema, R"({"type":"object"})"});
  ASSERT_TRUE(grammar);
  const std::string text = R"({"a": [1, {"b": "c"}], "d": null})";
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        const Taken taken = Take(**grammar, text);
        EXPECT_TRUE(taken.all && taken.may_end);
        auto other = compiler_->Compile({GrammarKind::kRegex, fmt::format("a{}", round % 5)});
        ASSERT_TRUE(other);
        EXPECT_TRUE(Take(**other, fmt::format("a{}", round % 5)).may_end);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tiercel::text
