// Which files of a repository make a model, and under which names they are kept.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "hub/listing.h"

namespace tiercel::hub {

struct HubId {
  std::string repository;  // "org/name"
  std::string variant;     // of "org/name:Q4_K_M": part of the GGUF file's name; else empty
};

// nullopt if `text` cannot be a hub id (it looks like a path).
std::optional<HubId> ParseHubId(std::string_view text);

// The files to fetch: configuration, tokenizer, templates and one form of the weights — safetensors
// before GGUF. Errors if there are no weights, or several GGUF files and no variant.
Expected<std::vector<HubFile>> SelectFiles(const std::vector<HubFile>& files, const HubId& id);

// The blob's name in the cache: the hub's hash, else one made of commit and path.
std::string BlobName(const HubFile& file, const std::string& commit);

// {cache}/models/org/name with '.' spelt "___", as ModelScope's own client does.
std::string ModelScopeFolder(const std::string& cache_dir, const std::string& repository);

// What to open in a downloaded folder: the folder, or its GGUF file where there is a variant.
Expected<std::string> LocalModel(const std::string& folder, const HubId& id);

}  // namespace tiercel::hub
