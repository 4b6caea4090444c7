#include "hub/files.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <set>

#include "base/ascii_case.h"

namespace tiercel::hub {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPartDigits = 5;  // of "-00002-of-00003"

bool IsSupportFile(const std::string& path) {
  return path.ends_with(".json") || path.ends_with(".jinja") || path.ends_with(".txt") ||
         path.ends_with(".model");
}

}  // namespace

std::optional<HubId> ParseHubId(std::string_view text) {
  HubId id;
  if (const size_t colon = text.find(':'); colon != text.npos) {
    id.variant = text.substr(colon + 1);
    text = text.substr(0, colon);
    if (!IsSafeName(id.variant)) return std::nullopt;
  }
  id.repository = text;
  const auto allowed = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.' ||
           c == '/';
  };
  if (text.empty() || text.size() > 200 || text.front() == '.' || text.front() == '/' ||
      text.ends_with(".gguf") || !std::all_of(text.begin(), text.end(), allowed) ||
      std::count(text.begin(), text.end(), '/') > 1 || !IsSafePath(text)) {
    return std::nullopt;
  }
  return id;
}

Expected<std::vector<HubFile>> SelectFiles(const std::vector<HubFile>& files, const HubId& id,
                                           bool with_weights) {
  std::vector<HubFile> chosen, safetensors, gguf;
  bool has_model_files = false;
  for (const HubFile& file : files) {
    // How hidden states become vectors, in the form of Sentence Transformers.
    if (IsSafePath(file.path) && file.path.ends_with("_Pooling/config.json")) chosen.push_back(file);
    // Weights in folders are other forms of the same model (original/, onnx/, …).
    if (!IsSafeName(file.path)) continue;
    if (IsSupportFile(file.path)) {
      chosen.push_back(file);
    } else if (file.path.ends_with(".safetensors")) {
      has_model_files |= file.path.starts_with("model");
      safetensors.push_back(file);
    } else if (file.path.ends_with(".gguf") &&
               LowerCase(file.path).find(LowerCase(id.variant)) != std::string::npos) {
      gguf.push_back(file);
    }
  }
  if (!with_weights) return chosen;
  if (!safetensors.empty() && id.variant.empty()) {
    // "consolidated.safetensors" beside "model-….safetensors" is the same model once more.
    for (HubFile& file : safetensors) {
      if (!has_model_files || file.path.starts_with("model")) chosen.push_back(std::move(file));
    }
    return chosen;
  }
  if (gguf.size() == 1) {
    chosen.push_back(std::move(gguf[0]));
    return chosen;
  }
  if (gguf.empty()) {
    return Unexpected(NotFound("{}: the repository has no {} file", id.repository,
                               id.variant.empty() ? ".safetensors or .gguf"
                                                  : ".gguf file of variant '" + id.variant + "':"));
  }
  std::string names;
  for (const HubFile& file : gguf) names += (names.empty() ? "" : ", ") + file.path;
  return Unexpected(InvalidArgument("{0}: several GGUF files ({1}): name one, as in {0}:Q4_K_M",
                                    id.repository, names));
}

std::string BlobName(const HubFile& file, const std::string& commit) {
  if (IsHex(file.sha256, 64)) return file.sha256;
  if (IsHex(file.git_sha1, 40)) return file.git_sha1;
  std::string name = commit + "-" + file.path;
  std::replace(name.begin(), name.end(), '/', '-');
  return name;
}

std::string ModelScopeFolder(const std::string& cache_dir, const std::string& repository) {
  std::string folder = repository;
  for (size_t at = 0; (at = folder.find('.', at)) != std::string::npos; at += 3) {
    folder.replace(at, 1, "___");
  }
  return cache_dir + "/models/" + folder;
}

std::string MissingFile(const std::string& folder, bool with_weights) {
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    std::error_code broken;
    if (!fs::exists(entry.path(), broken)) return name;
    names.insert(name);
  }
  bool has_weights = false;
  for (const std::string& name : names) {
    const bool weights = name.ends_with(".safetensors") || name.ends_with(".gguf");
    has_weights |= weights;
    // "NAME-00002-of-00003.EXTENSION"
    const size_t of = name.rfind("-of-");
    if (!weights || of == name.npos || of < kPartDigits || of + 4 + kPartDigits > name.size()) {
      continue;
    }
    int count = 0;
    const char* digits = name.data() + of + 4;
    if (std::from_chars(digits, digits + kPartDigits, count).ptr != digits + kPartDigits) continue;
    for (int part = 1; part <= count; ++part) {
      const std::string wanted = name.substr(0, of - kPartDigits) + fmt::format("{:05}", part) +
                                 name.substr(of);
      if (!names.contains(wanted)) return wanted;
    }
  }
  return has_weights || !with_weights ? "" : ".safetensors or .gguf file";
}

Expected<std::string> LocalModel(const std::string& folder, const HubId& id) {
  if (id.variant.empty()) return folder;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    if (name.ends_with(".gguf") && LowerCase(name).find(LowerCase(id.variant)) != std::string::npos) {
      return entry.path().string();
    }
  }
  return Unexpected(NotFound("{}: no .gguf file with '{}' in its name", folder, id.variant));
}

}  // namespace tiercel::hub
