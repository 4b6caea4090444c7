// libFuzzer: a GGUF file's structure, its configuration and tokenizer, and its tensors' values.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "fuzz/one_line.h"
#include "model/gguf_config.h"
#include "model/gguf_file.h"
#include "model/gguf_types.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tiercel;
  const std::string path = "fuzz.gguf";
  const auto file = model::GgufFile::Parse({data, size}, path);
  fuzz::ExpectOneLineError(file);
  if (!file) return 0;
  fuzz::ExpectOneLineError(model::GgufModelConfig(*file, {data, size}, "", path));
  fuzz::ExpectOneLineError(model::ReadGgufTokenizer(*file, path));
  for (const auto& [name, tensor] : file->tensors()) {
    CHECK_LE(tensor.begin, tensor.end);
    CHECK_LE(tensor.end, size);
    int64_t elements = 1;
    for (int64_t dimension : tensor.shape) elements *= dimension;
    std::vector<float> values(static_cast<size_t>(elements));
    model::Dequantize(static_cast<model::GgufTensorType>(tensor.type), data + tensor.begin,
                      elements, values.data());
  }
  return 0;
}
