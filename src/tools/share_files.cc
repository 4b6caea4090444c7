// tiercel share-files: what is installed beside the program and says what it takes, written by the
// program itself, so that it says what that takes.
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

#include "serving/version.h"
#include "tools/commands.h"
#include "tools/completions.h"
#include "tools/man_pages.h"
#include "tools/text_file.h"

namespace tiercel::tools {
namespace {

namespace fs = std::filesystem;

constexpr CommandHelp kShareFilesHelp = {
    "tiercel share-files DIR",
    "Writes the man pages and the completions for bash, zsh and fish below the folder DIR, where they "
    "lie below /usr/share. `make install` and the packages do.",
    "positional arguments:\n  DIR   a folder, made if it is not there"};

const OptionTable& ShareFilesTable() {
  static const OptionTable table(std::vector<OptionGroup>{{"options", "None.", {}}});
  return table;
}

Status WriteFile(const fs::path& path, const std::string& text) {
  std::error_code error;  // WriteText finds no folder then
  fs::create_directories(path.parent_path(), error);
  return WriteText(path.string(), text);
}

Status WriteAll(const fs::path& folder) {
  const std::span<const Subcommand> commands = Subcommands();
  for (const auto& [name, page] :
       ManPages(commands, {.version = TIERCEL_VERSION, .date = TIERCEL_RELEASE_DATE})) {
    RETURN_IF_ERROR(WriteFile(folder / "man" / "man1" / name, page));
  }
  RETURN_IF_ERROR(
      WriteFile(folder / "bash-completion/completions/tiercel", BashCompletion(commands)));
  RETURN_IF_ERROR(WriteFile(folder / "zsh/site-functions/_tiercel", ZshCompletion(commands)));
  return WriteFile(folder / "fish/vendor_completions.d/tiercel.fish", FishCompletion(commands));
}

}  // namespace

CommandText DescribeShareFiles() { return {kShareFilesHelp, ShareFilesTable()}; }

int RunShareFiles(const std::vector<std::string>& words) {
  const auto options = ParseOptions(ShareFilesTable(), words, 1);
  if (!options) return UsageError(kShareFilesHelp, "tiercel share-files", options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(ShareFilesTable(), kShareFilesHelp, "").c_str(), stdout);
    return kExitOk;
  }
  if (options->positional().empty()) {
    return UsageError(kShareFilesHelp, "tiercel share-files", "the following arguments are required: DIR");
  }
  const Status status = WriteAll(options->positional()[0]);
  return status.ok() ? kExitOk : Failure("tiercel share-files", status, kExitFailure);
}

}  // namespace tiercel::tools
