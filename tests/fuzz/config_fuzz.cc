// libFuzzer: config.json and generation_config.json, and what follows from their numbers.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "fuzz/one_line.h"
#include "model/config.h"
#include "model/tensor_account.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tiercel;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz::ExpectOneLineError(model::ParseGenerationConfig(text, "fuzz.json"));
  const auto config = model::ParseModelConfig(text, "", "fuzz.json");
  fuzz::ExpectOneLineError(config);
  if (!config) return 0;
  CHECK_GE(config->DerivedMaxModelLen(), 1);
  for (const model::PlannedShape& tensor : model::TensorsOf(*config, model::Head::kLogits)) {
    int64_t elements = 1;
    for (const int64_t dimension : tensor.shape) {
      CHECK_GT(dimension, 0);
      CHECK(!__builtin_mul_overflow(elements, dimension, &elements));
    }
  }
  return 0;
}
