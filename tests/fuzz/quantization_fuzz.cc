// libFuzzer: what a checkpoint says of its quantization, as a description or as a config.json.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/quantization.h"

namespace {

void Check(const tiercel::Expected<tiercel::model::Quantization>& q) {
  using namespace tiercel;
  const auto one_line = [](const Status& status) {
    CHECK(status.message().find('\n') == std::string::npos);
  };
  if (!q) return one_line(q.error());
  for (const std::string& notice : q->notices()) CHECK(notice.find('\n') == std::string::npos);
  for (const std::string& name : q->TensorNames()) {
    const size_t dot = name.rfind('.');
    for (const char* type : {"I8", "BF16"}) {
      const auto scheme = q->SchemeOf(name.substr(0, dot), type);
      if (!scheme) one_line(scheme.error());
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using tiercel::model::Quantization;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Check(Quantization::ParseDescription(text, "fuzz.json"));
  Check(Quantization::ParseConfig(text, "", "fuzz.json"));
  return 0;
}
