// libFuzzer: config.json and generation_config.json, and what follows from their numbers.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "checkpoint/config.h"
#include "checkpoint/tensor_account.h"
#include "fuzz/one_line.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tiercel;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz::ExpectOneLineError(checkpoint::ParseGenerationConfig(text, "fuzz.json"));
  const auto config = checkpoint::ParseModelConfig(text, "", "fuzz.json");
  fuzz::ExpectOneLineError(config);
  if (!config) return 0;
  CHECK_GE(config->DerivedMaxModelLen(), 1);
  for (const checkpoint::PlannedShape& tensor : checkpoint::TensorsOf(*config, checkpoint::Head::kLogits)) {
    int64_t elements = 1;
    for (const int64_t dimension : tensor.shape) {
      CHECK_GT(dimension, 0);
      CHECK(!__builtin_mul_overflow(elements, dimension, &elements));
    }
  }
  return 0;
}
