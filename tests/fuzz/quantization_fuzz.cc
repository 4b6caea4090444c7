// libFuzzer: what a checkpoint says of its quantization, as a description or as a config.json.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "checkpoint/quantization.h"
#include "fuzz/one_line.h"

namespace {

void Check(const tiercel::Expected<tiercel::checkpoint::Quantization>& q) {
  using namespace tiercel;
  fuzz::ExpectOneLineError(q);
  if (!q) return;
  for (const std::string& notice : q->notices()) fuzz::ExpectOneLine(notice);
  for (const std::string& name : q->TensorNames()) {
    const size_t dot = name.rfind('.');
    for (const char* type : {"I8", "I4", "BF16"}) {
      fuzz::ExpectOneLineError(q->SchemeOf(name.substr(0, dot), type));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using tiercel::checkpoint::Quantization;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Check(Quantization::ParseDescription(text, "fuzz.json"));
  Check(Quantization::ParseConfig(text, "", "fuzz.json"));
  Check(Quantization::ParseKvCache(text, "", "fuzz.json"));
  return 0;
}
