#include "api/own_names.h"

#include <algorithm>
#include <cctype>
#include <string>

#include "base/split.h"

namespace tiercel::api {

namespace {

bool IsOfName(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

std::string_view OwnNameOf(std::string_view name, std::span<const OwnName> names) {
  const auto found = std::find_if(names.begin(), names.end(), [&](const OwnName& n) { return n.chat == name; });
  return found != names.end() ? found->own : name;
}

// A word that can be nothing else ("max_tokens"), or one that is marked as a name ("`messages`", "parameter=tools").
bool IsName(std::string_view word, char before) {
  return word.find('_') != std::string_view::npos || before == '\'' || before == '`' || before == '=';
}

// `line` up to the value that it repeats, if it does.
std::string RenamedLine(std::string_view line, std::span<const OwnName> names) {
  const size_t value = std::min(line.find("'input': "), line.find(", value="));
  const std::string_view text = line.substr(0, value);
  std::string out;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && IsOfName(text[end])) ++end;
    if (end == i) {
      out += text[i++];
      continue;
    }
    const std::string_view word = text.substr(i, end - i);
    out += IsName(word, i > 0 ? text[i - 1] : ' ') ? OwnNameOf(word, names) : word;
    i = end;
  }
  if (value != std::string_view::npos) out += line.substr(value);
  return out;
}

}  // namespace

ApiError InOwnNames(ApiError error, std::span<const OwnName> names) {
  if (error.param) {
    const size_t end = std::min(error.param->find('.'), error.param->size());
    *error.param = std::string(OwnNameOf(error.param->substr(0, end), names)) + error.param->substr(end);
  }
  std::string message;
  for (const std::string_view line : Split(error.message, '\n')) {
    if (line.data() != error.message.data()) message += '\n';
    message += RenamedLine(line, names);
  }
  error.message = std::move(message);
  return error;
}

}  // namespace tiercel::api
