#include "model/gguf.h"

namespace tiercel::model {

Expected<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path, std::string_view) {
  return Unexpected(Unimplemented("{}: GGUF files cannot be read yet", path));
}

}  // namespace tiercel::model
