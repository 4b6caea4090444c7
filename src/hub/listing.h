// What a hub says about one revision of a repository. The text is hostile until it is read here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tiercel::hub {

// One file as the hub describes it. Hashes are lower-case hex, empty where the hub gives none.
struct HubFile {
  std::string path;      // within the repository
  int64_t size = -1;     // bytes; −1: unknown
  std::string sha256;    // of the content (large files)
  std::string git_sha1;  // git's blob id (small files)
};

struct Listing {
  std::string commit;
  std::vector<HubFile> files;
};

// Bounds of an answer: of its text, of the values in it, of the files, of a path and of all sizes
// together. A large repository has some hundreds of files of 5 GB.
constexpr int64_t kMaxListingBytes = 16 << 20;
constexpr int64_t kMaxListingValues = 500'000;
constexpr size_t kMaxFiles = 10'000;
constexpr size_t kMaxPathBytes = 1024;
constexpr int64_t kMaxRepositoryBytes = int64_t{64} << 40;

// Each refuses, with one line that begins with `where`, what is not a listing within the bounds, a
// name that could leave its folder or steer a terminal, a name that comes twice, and sizes that
// are none. After that names are plain, sizes are −1 or ≥ 0 and their sum does not overflow.

// GET /api/models/ORG/NAME/revision/REVISION?blobs=true
Expected<Listing> ParseHuggingFaceListing(std::string_view text, const std::string& where);
// GET /api/v1/models/ORG/NAME/repo/files?Revision=REVISION&Recursive=true. The commit is the
// revision that was asked for: the answer names none for the whole.
Expected<Listing> ParseModelScopeListing(std::string_view text, const std::string& revision,
                                         const std::string& where);

// A name or path from a hub that stays below the folder that it is put into.
bool IsSafeName(std::string_view name);
bool IsSafePath(std::string_view path);

// `size` digits of lower-case hex.
bool IsHex(std::string_view text, size_t size);

}  // namespace tiercel::hub
