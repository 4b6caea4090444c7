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
// before GGUF, unless none are wanted. Errors if there are no weights, or several GGUF files and no
// variant.
Expected<std::vector<HubFile>> SelectFiles(const std::vector<HubFile>& files, const HubId& id,
                                           bool with_weights);

// The blob's name in the cache: the hub's hash, else one made of commit and path.
std::string BlobName(const HubFile& file, const std::string& commit);

// {cache}/models/org/name with '.' spelt "___", as ModelScope's own client does.
std::string ModelScopeFolder(const std::string& cache_dir, const std::string& repository);

// The first file that a copy in `folder` is known to lack, "" if it looks whole: the target of a
// link, a part of a numbered set ("model-00002-of-00003.safetensors"), or weights at all.
std::string MissingFile(const std::string& folder, bool with_weights);

// What to open in a downloaded folder: the folder, or its GGUF file where there is a variant.
Expected<std::string> LocalModel(const std::string& folder, const HubId& id);

}  // namespace tiercel::hub
