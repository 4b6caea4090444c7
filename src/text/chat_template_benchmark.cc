// What rendering a chat costs: Qwen3's template over conversations of some lengths.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "text/chat_template.h"

namespace tiercel::text {
namespace {

using Json = nlohmann::ordered_json;

// An agent's history: after the question `turns` times a call with its result of `words` words, of
// which Qwen's tokenizer makes about 1.3 tokens each.
std::string Conversation(int turns, int words) {
  std::string result;
  for (int i = 0; i < words; ++i) result += i % 12 == 11 ? "entry\n" : "value ";
  Json messages = {{{"role", "system"}, {"content", "You are a careful assistant."}},
                   {{"role", "user"}, {"content", "Which of the files are out of date?"}}};
  for (int i = 0; i < turns; ++i) {
    messages.push_back(
        {{"role", "assistant"},
         {"content", "I read the next one."},
         {"tool_calls",
          {{{"type", "function"},
            {"function", {{"name", "read"}, {"arguments", {{"path", "a/b"}, {"line", i}}}}}}}}});
    messages.push_back({{"role", "tool"}, {"content", result}});
  }
  return Json({{"messages", messages}, {"add_generation_prompt", true}}).dump();
}

std::shared_ptr<const ChatTemplate> Qwen3() {
  std::ifstream file(TIERCEL_TEST_DATA "/chat_template/qwen3.jinja", std::ios::binary);
  std::stringstream source;
  source << file.rdbuf();
  static const auto pool = std::make_shared<TemplatePool>(
      TemplatePool::Options{.executable = TIERCEL_TEMPLATE_WORKER});
  auto compiled = ChatTemplate::Compile(pool, source.str());
  if (!compiled) {
    std::fprintf(stderr, "%s\n", compiled.error().message().c_str());
    std::exit(1);
  }
  return *compiled;
}

void BM_Render(benchmark::State& state) {
  static const auto chat_template = Qwen3();
  const std::string values =
      Conversation(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
  size_t bytes = 0;
  for (auto _ : state) bytes += chat_template->Render(values)->size();
  state.counters["bytes"] = static_cast<double>(values.size());
  benchmark::DoNotOptimize(bytes);
}
BENCHMARK(BM_Render)->Args({0, 0})->Args({4, 150})->Args({40, 370})->UseRealTime();
BENCHMARK(BM_Render)->Args({4, 150})->Threads(8)->UseRealTime();

}  // namespace
}  // namespace tiercel::text

BENCHMARK_MAIN();
