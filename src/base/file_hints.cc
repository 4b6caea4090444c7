#include "base/file_hints.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "base/ascii_case.h"

namespace tiercel {
namespace {

constexpr size_t kLooked = 1024;

// The pointer file's "size 12345" line, digits only.
std::string_view LfsSize(std::string_view pointer) {
  constexpr std::string_view kKey = "\nsize ";
  const size_t at = pointer.find(kKey);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = pointer.substr(at + kKey.size());
  return rest.substr(0, std::min<size_t>(20, rest.find_first_not_of("0123456789")));
}

}  // namespace

std::string BrokenLinkHint(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path target = fs::read_symlink(path, error);
  if (error || fs::exists(path, error)) return {};
  return fmt::format(": it is a link to {}", target.string());
}

std::string WrongFileHint(std::string_view contents) {
  contents = contents.substr(0, kLooked);
  if (contents.starts_with("version https://git-lfs.github.com/spec/")) {
    const std::string_view size = LfsSize(contents);
    return fmt::format(
        ": this is a Git LFS pointer, not the file itself{}; run `git lfs pull` or download it "
        "again",
        size.empty() ? "" : fmt::format(" (expected {} bytes)", size));
  }
  const size_t start = contents.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  const std::string text = LowerCase(contents.substr(std::min(start, contents.size())));
  if (text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<?xml")) {
    return ": this is an HTML page, not the file itself (an error or login page was downloaded); "
           "download it again";
  }
  if (contents.starts_with("PK\x03\x04")) {
    return ": this is a ZIP archive (a PyTorch checkpoint?); convert it to safetensors";
  }
  if (contents.starts_with("GGUF")) return ": this is a GGUF file; give it the ending .gguf";
  if (std::all_of(contents.begin(), contents.end(), [](char c) { return c == 0; })) {
    return ": it holds only zero bytes (a download that was set aside but not filled); download "
           "it again";
  }
  return {};
}

}  // namespace tiercel
