// libFuzzer: a model's folder: an index, a configuration, a description of the quantization (each with
// two bytes of length before it; empty: no such file), and the rest as the safetensors file. Opened, and
// every tensor is read.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "checkpoint/checkpoint.h"
#include "fuzz/folder.h"
#include "fuzz/one_line.h"
#include "fuzz/read_all.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tiercel;
  static const fuzz::Folder folder;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  for (const char* name :
       {"model.safetensors.index.json", "config.json", "quant_model_description.json"}) {
    const std::string_view part = fuzz::TakePart(&input);
    if (part.empty()) {
      ::unlink((folder.path() + "/" + name).c_str());
    } else {
      folder.Write(name, part);
    }
  }
  folder.Write("model.safetensors", input);
  const auto checkpoint = checkpoint::Checkpoint::Open(folder.path());
  fuzz::ExpectOneLineError(checkpoint);
  if (checkpoint) fuzz::ReadAll(**checkpoint);
  return 0;
}
