#include "platform/sysfs.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/split.h"

namespace tiercel::platform {
namespace {

constexpr size_t kMaxFile = size_t{4} << 20;

}  // namespace

std::optional<std::string> ReadTextFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return std::nullopt;
  std::string text;
  char chunk[4096];
  ssize_t n;
  while (text.size() < kMaxFile && (n = read(fd, chunk, sizeof(chunk))) > 0) {
    text.append(chunk, static_cast<size_t>(n));
  }
  close(fd);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

std::optional<int64_t> ParseInt(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) {
    return text.front() == '-' ? std::numeric_limits<int64_t>::min()
                               : std::numeric_limits<int64_t>::max();
  }
  if (error != std::errc()) return std::nullopt;
  return value;
}

std::optional<int64_t> ReadInt(const std::string& path) {
  const std::optional<std::string> text = ReadTextFile(path);
  return text ? ParseInt(*text) : std::nullopt;
}

std::vector<int> ParseCpuList(std::string_view text) {
  std::vector<int> cpus;
  for (std::string_view part : Split(text, ',')) {
    const size_t dash = part.find('-');
    const std::optional<int64_t> first = ParseInt(part.substr(0, dash));
    const std::optional<int64_t> last =
        dash == std::string_view::npos ? first : ParseInt(part.substr(dash + 1));
    if (!first || !last || *first < 0) continue;
    for (int64_t cpu = *first; cpu <= *last && cpu <= kMaxCpuId; ++cpu) {
      cpus.push_back(static_cast<int>(cpu));
    }
  }
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  return cpus;
}

std::optional<int64_t> FindIntField(std::string_view text, std::string_view key) {
  for (std::string_view line : Split(text, '\n')) {
    // The whole key: "active_file" is not "active_filex".
    if (line.substr(0, key.size()) != key) continue;
    const std::string_view rest = line.substr(key.size());
    if (rest.empty() || (rest.front() != ' ' && rest.front() != '\t')) continue;
    return ParseInt(rest);
  }
  return std::nullopt;
}

std::optional<std::string> FindTextField(std::string_view text, std::string_view key) {
  for (std::string_view line : Split(text, '\n')) {
    if (line.substr(0, key.size()) != key) continue;
    const std::string_view rest = line.substr(key.size());
    const size_t colon = rest.find_first_not_of(" \t");
    if (colon != std::string_view::npos && rest[colon] == ':') return std::string(Trimmed(rest.substr(colon + 1), " \t"));
  }
  return std::nullopt;
}

}  // namespace tiercel::platform
