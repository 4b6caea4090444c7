#include "capi/find_program.h"

#include <dlfcn.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "base/environ.h"
#include "base/split.h"

namespace tiercel::capi {

namespace fs = std::filesystem;

Expected<std::string> FindProgram() {
  std::vector<fs::path> folders;
  Dl_info library;
  std::error_code error;
  if (::dladdr(reinterpret_cast<const void*>(&FindProgram), &library) != 0) {
    const fs::path folder = fs::weakly_canonical(library.dli_fname, error).parent_path();
    folders = {folder / TIERCEL_BIN_FROM_LIB, folder};  // installed; as it was built
  }
  for (const std::string_view folder : Split(EnvValue(ReadEnviron(), "PATH"), ':')) {
    folders.emplace_back(folder);
  }
  for (const fs::path& folder : folders) {
    const fs::path program = (folder / "tiercel").lexically_normal();
    if (fs::is_regular_file(program, error) && ::access(program.c_str(), X_OK) == 0)
      return program.string();
  }
  return Unexpected(
      FailedPrecondition("the program tiercel, which renders chat templates: found neither beside "
                         "the library nor in the PATH; "
                         "name it in tiercel_engine_options.program"));
}

}  // namespace tiercel::capi
