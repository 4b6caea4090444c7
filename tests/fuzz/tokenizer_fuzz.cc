// libFuzzer: tokenizer_config.json (with two bytes of length before it) and tokenizer.json, loaded, and
// texts encoded and decoded.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fuzz/folder.h"
#include "fuzz/one_line.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tiercel;
  static const fuzz::Folder folder;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string_view config = fuzz::TakePart(&input);
  folder.Write("tokenizer_config.json", config.empty() ? "{}" : config);  // an empty file is refused
  folder.Write("tokenizer.json", input);
  const auto loaded = text::Tokenizer::Load(folder.path());
  fuzz::ExpectOneLineError(loaded);
  if (!loaded) return 0;
  const text::Tokenizer& tokenizer = **loaded;
  for (const std::string_view text :
       {"", "ab", "hello world\n <|im_end|>", "\xff\xe4\xbd\xa0\xf0\x9f\x8c\xb6 \xcc\x81"}) {
    const auto ids = tokenizer.Encode(text, true);
    fuzz::ExpectOneLineError(ids);
    if (!ids) continue;
    CHECK_LE(ids->size(), size_t{1} << 20);
    (void)tokenizer.Decode(*ids, false);
    (void)tokenizer.Decode(*ids, true);
  }
  for (int32_t id = -1; id < 300; ++id) (void)tokenizer.TokenBytes(id);
  return 0;
}
