// libFuzzer: a model's chat template, compiled and rendered with an ordinary conversation. Whatever
// it does, its worker says so or ends by one of its bounds, and the next one renders.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tiercel;
  static constexpr std::string_view kValues =
      R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"a<b&'c'"},)"
      R"({"role":"assistant","content":"<think>x</think>y","tool_calls":[{"type":"function",)"
      R"("function":{"name":"f","arguments":{"k":[1,2.5,null,true]}}}]},)"
      R"({"role":"tool","content":"r"}],"tools":[{"type":"function","function":{"name":"f",)"
      R"("parameters":{}}}],"add_generation_prompt":true,"bos_token":"<s>","eos_token":"</s>"})";
  static const auto pool = std::make_shared<text::TemplatePool>(
      text::TemplatePool::Options{.executable = TIERCEL_TEMPLATE_WORKER});
  const auto compiled =
      text::ChatTemplate::Compile(pool, std::string(reinterpret_cast<const char*>(data), size));
  const Status status = !compiled ? compiled.error() : [&] {
    const auto text = (*compiled)->Render(kValues);
    return text ? OkStatus() : text.error();
  }();
  if (!status.ok() && status.code() != StatusCode::kInvalidArgument) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    std::abort();
  }
  return 0;
}
