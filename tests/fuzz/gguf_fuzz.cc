// libFuzzer: a GGUF file opened as a model: its configuration, the values of its tensors, and the
// tokenizer that it carries, made and used.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "checkpoint/checkpoint.h"
#include "fuzz/folder.h"
#include "fuzz/one_line.h"
#include "fuzz/read_all.h"
#include "text/tokenizer.h"

namespace {

void UseTokenizer(const tiercel::checkpoint::GgufTokenizerData& data) {
  using namespace tiercel;
  const auto tokenizer = text::Tokenizer::FromGguf(data);
  fuzz::ExpectOneLineError(tokenizer);
  if (!tokenizer) return;
  const auto ids = (*tokenizer)->Encode("ab a\xff <|im_end|> \xe4\xbd\xa0", true);
  fuzz::ExpectOneLineError(ids);
  if (ids) (void)(*tokenizer)->Decode(*ids, true);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tiercel;
  static const fuzz::Folder folder;
  folder.Write("fuzz.gguf", {reinterpret_cast<const char*>(data), size});
  const auto checkpoint = checkpoint::Checkpoint::Open(folder.path() + "/fuzz.gguf");
  fuzz::ExpectOneLineError(checkpoint);
  if (!checkpoint) return 0;
  fuzz::ReadAll(**checkpoint);
  if (const auto* tokenizer = (*checkpoint)->gguf_tokenizer()) UseTokenizer(*tokenizer);
  return 0;
}
