// libFuzzer: a model's chat template, compiled and rendered with an ordinary conversation.
#include <cstddef>
#include <cstdint>
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
  const auto compiled =
      text::ChatTemplate::Compile({reinterpret_cast<const char*>(data), size});
  if (compiled) (void)(*compiled)->Render(kValues);
  return 0;
}
