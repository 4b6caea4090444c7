// Small readers for the text files under /proc and /sys. A file that is missing or malformed is
// nothing unusual there (kernels differ), so they answer with nullopt or an empty value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::platform {

// The whole file without trailing white space; files beyond 4 MiB are cut there.
std::optional<std::string> ReadTextFile(const std::string& path);

// A decimal number at the start of `text` (leading blanks allowed), saturated to int64.
std::optional<int64_t> ParseInt(std::string_view text);
std::optional<int64_t> ReadInt(const std::string& path);

constexpr int kMaxCpuId = 65535;

// "0-3,8,10-11" → {0, 1, 2, 3, 8, 10, 11}; ascending, without duplicates, ids to kMaxCpuId.
std::vector<int> ParseCpuList(std::string_view text);

// The number after `key` at the start of a line ("MemTotal:", "inactive_file").
std::optional<int64_t> FindIntField(std::string_view text, std::string_view key);

// What follows `key`, blanks and a colon at the start of a line, the first such one: "model name\t: x" of /proc/cpuinfo.
std::optional<std::string> FindTextField(std::string_view text, std::string_view key);

}  // namespace tiercel::platform
