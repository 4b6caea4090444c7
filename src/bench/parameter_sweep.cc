#include "bench/parameter_sweep.h"

#include <algorithm>
#include <cctype>
#include <set>

#include <fmt/format.h>

#include "api/json_reader.h"
#include "base/split.h"
#include "bench/report.h"

namespace tiercel::bench {
namespace {

using api::Json;

constexpr std::string_view kName = "_benchmark_name";

const Json* FindKey(const SweepItem& item, std::string_view key) {
  const auto at = std::find_if(item.begin(), item.end(), [&](const auto& member) { return member.key == key; });
  return at == item.end() ? nullptr : &at->value;
}

std::string Replaced(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

// How a command line may have the flag, the preferred way first. Only what stands before a dot is the flag's name.
std::vector<std::string> FlagSpellings(const std::string& key) {
  const size_t dot = std::min(key.find('.'), key.size());
  const std::string name = key.substr(0, dot), rest = key.substr(dot);
  return {"--" + Replaced(name, "_", "-") + rest, "--" + Replaced(name, "-", "_") + rest, "--" + name + rest};
}

// A flag's one or two words.
std::vector<std::string> FlagWords(const std::string& key, const Json& value) {
  if (const bool* on = value.boolean(); on != nullptr) {
    if (key.find('.') != std::string::npos) {
      return {fmt::format("{}={}", FlagSpellings(key)[0], *on ? "true" : "false")};
    }
    return {FlagSpellings(*on ? key : "no-" + key)[0]};
  }
  return {FlagSpellings(key)[0], value.object() != nullptr ? value.Dump() : PythonStr(value)};
}

}  // namespace

Expected<std::vector<SweepItem>> ParseParameterSweep(const std::string& source, std::string_view json) {
  auto parsed = api::ParseJson(json);
  if (!parsed) return Unexpected(InvalidArgument("{}: {}", source, parsed.error().message()));
  std::vector<SweepItem> items;
  std::set<std::string> names;
  const auto add = [&](std::string_view name, Json& record) -> Status {
    if (record.object() == nullptr) {
      return InvalidArgument("{}: found {}, expected an object of flags", source, record.DumpStart(64));
    }
    SweepItem item = std::move(*record.object());
    if (!name.empty() && FindKey(item, kName) == nullptr) {
      item.insert(item.begin(), {std::string(kName), Json(name)});
    }
    if (const Json* own = FindKey(item, kName); own != nullptr && !names.insert(PythonStr(*own)).second) {
      return InvalidArgument("{}: found the {} {} twice, expected each once", source, kName, PythonStr(*own));
    }
    items.push_back(std::move(item));
    return OkStatus();
  };
  if (Json::Array* list = parsed->array(); list != nullptr) {
    for (Json& record : *list) RETURN_IF_ERROR(add("", record));
  } else if (Json::Object* named = parsed->object(); named != nullptr) {
    for (Json::Member& member : *named) RETURN_IF_ERROR(add(member.key, member.value));
  } else {
    return Unexpected(InvalidArgument("{}: found {}, expected a list of objects, or an object of named ones", source,
                                      parsed->DumpStart(64)));
  }
  return items;
}

const Json* FindParameter(const SweepItem& item, std::string_view name) {
  const std::string wanted = Replaced(std::string(name), "-", "_");
  const auto at = std::find_if(item.begin(), item.end(), [&](const Json::Member& member) {
    return Replaced(member.key, "-", "_") == wanted;
  });
  return at == item.end() ? nullptr : &at->value;
}

SweepItem WithParameter(SweepItem item, std::string_view name, Json value) {
  Json object(std::move(item));
  object.Set(name, std::move(value));
  return std::move(*object.object());
}

std::string SweepText(const SweepItem& item, std::string_view separator) {
  std::string text;
  for (const Json::Member& member : item) {
    text += fmt::format("{}{}={}", text.empty() ? "" : separator, member.key, PythonStr(member.value));
  }
  return text;
}

std::string SweepName(const SweepItem& item) {
  const Json* name = FindKey(item, kName);
  return name != nullptr ? PythonStr(*name) : SweepText(item, "-");
}

std::vector<std::string> ApplyParameters(const SweepItem& item, std::vector<std::string> command) {
  for (const Json::Member& member : item) {
    if (member.key == kName) continue;
    const std::vector<std::string> words = FlagWords(member.key, member.value);
    auto at = command.end();
    for (const std::string& spelling : FlagSpellings(member.key)) {
      at = std::find(command.begin(), command.end(), spelling);
      if (at != command.end()) break;
    }
    if (at == command.end()) {
      command.insert(command.end(), words.begin(), words.end());
      continue;
    }
    *at = words[0];
    if (words.size() == 1) continue;
    if (at + 1 == command.end()) {
      command.push_back(words[1]);
    } else {
      at[1] = words[1];
    }
  }
  return command;
}

std::string SweepFolder(const SweepItem& serve, const SweepItem& bench, std::string_view workload) {
  std::string folder;
  for (const auto& [prefix, item] : {std::pair{"SERVE-", &serve}, std::pair{"BENCH-", &bench}}) {
    if (item->empty()) continue;
    folder += fmt::format("{}{}-{}", folder.empty() ? "" : "-", prefix, SweepName(*item));
  }
  if (!workload.empty()) folder += fmt::format("{}WL--{}", folder.empty() ? "" : "-", workload);
  return SafeFileName(folder);
}

std::string SafeFileName(std::string_view name) { return Replaced(Replaced(std::string(name), "/", "_"), "..", "__"); }

Expected<SweepLinks> ParseLinks(std::string_view text) {
  SweepLinks links;
  if (text.empty()) return links;
  for (const std::string_view pair : Split(text, ',')) {
    const std::vector<std::string_view> keys = Split(pair, '=');
    if (keys.size() != 2) {
      return Unexpected(InvalidArgument(
          "argument --link-vars: found '{}', expected pairs as in max_num_seqs=max_concurrency", pair));
    }
    links.emplace_back(Trimmed(keys[0], " "), Trimmed(keys[1], " "));
  }
  return links;
}

bool AreLinked(const SweepLinks& links, const SweepItem& serve, const SweepItem& bench) {
  return std::all_of(links.begin(), links.end(), [&](const auto& link) {
    const Json* of_server = FindKey(serve, link.first);
    const Json* of_bench = FindKey(bench, link.second);
    return of_server != nullptr && of_bench != nullptr && PythonRepr(*of_server) == PythonRepr(*of_bench);
  });
}

Expected<std::vector<std::string>> SplitCommand(std::string_view what, std::string_view text) {
  std::vector<std::string> words;
  bool within = false;  // a word
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (std::isspace(static_cast<unsigned char>(c)) != 0) {
      within = false;
      continue;
    }
    if (!within) words.emplace_back();
    within = true;
    std::string& word = words.back();
    if (c == '\\' && i + 1 < text.size()) {
      word += text[++i];
    } else if (c == '\'' || c == '"') {
      for (++i; i < text.size() && text[i] != c; ++i) {
        const bool escapes = c == '"' && text[i] == '\\' && i + 1 < text.size() &&
                             (text[i + 1] == '"' || text[i + 1] == '\\');
        word += escapes ? text[++i] : text[i];
      }
      if (i >= text.size()) return Unexpected(InvalidArgument("argument {}: a quotation does not end", what));
    } else {
      word += c;
    }
  }
  if (words.empty()) return Unexpected(InvalidArgument("argument {}: found no words, expected a command", what));
  return words;
}

std::string PythonRepr(const Json& value) {
  if (const std::string* text = value.string(); text != nullptr) {
    const char quote = text->find('\'') != std::string::npos && text->find('"') == std::string::npos ? '"' : '\'';
    std::string out(1, quote);
    for (const char c : *text) {
      if (c == '\\' || c == quote) out += '\\';
      out += c == '\n' ? "\\n" : c == '\t' ? "\\t" : c == '\r' ? "\\r" : std::string(1, c);
    }
    return out + quote;
  }
  return PythonStr(value);
}

std::string PythonStr(const Json& value) {
  if (value.is_null()) return "None";
  if (const bool* on = value.boolean(); on != nullptr) return *on ? "True" : "False";
  if (const int64_t* number = value.integer(); number != nullptr) return std::to_string(*number);
  if (const std::string* text = value.string(); text != nullptr) return *text;
  std::string out;
  if (const Json::Array* list = value.array(); list != nullptr) {
    for (const Json& item : *list) out += (out.empty() ? "" : ", ") + PythonRepr(item);
    return "[" + out + "]";
  }
  if (const Json::Object* object = value.object(); object != nullptr) {
    for (const Json::Member& member : *object) {
      out += fmt::format("{}{}: {}", out.empty() ? "" : ", ", PythonRepr(Json(member.key)), PythonRepr(member.value));
    }
    return "{" + out + "}";
  }
  return PythonFloat(value.real().value_or(0));
}

}  // namespace tiercel::bench
