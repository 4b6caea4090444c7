// Any bytes as a hub's listing: refused by one line, or names and sizes that are safe to use.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string_view>

#include "base/check.h"
#include "fuzz/one_line.h"
#include "hub/files.h"
#include "hub/listing.h"

namespace tiercel::hub {
namespace {

void ExpectSafe(const Expected<Listing>& listing) {
  fuzz::ExpectOneLineError(listing);
  if (!listing) return;
  CHECK(listing->files.size() <= kMaxFiles);
  std::set<std::string> names;
  int64_t total = 0;
  for (const HubFile& file : listing->files) {
    CHECK(IsSafePath(file.path) && names.insert(file.path).second);
    CHECK(file.path.front() != '/' && file.path.find('\\') == std::string::npos);
    CHECK(file.size >= -1 && file.size <= kMaxRepositoryBytes);
    if (file.size > 0) total += file.size;
    CHECK(file.sha256.empty() || IsHex(file.sha256, 64));
    CHECK(file.git_sha1.empty() || IsHex(file.git_sha1, 40));
    CHECK(IsSafeName(BlobName(file, "commit")) || file.path.size() > 200);
  }
  CHECK(total <= kMaxRepositoryBytes);
  fuzz::ExpectOneLineError(SelectFiles(listing->files, {"org/name", ""}, true));
  fuzz::ExpectOneLineError(SelectFiles(listing->files, {"org/name", "q4"}, true));
}

}  // namespace
}  // namespace tiercel::hub

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  tiercel::hub::ExpectSafe(tiercel::hub::ParseHuggingFaceListing(text, "URL"));
  tiercel::hub::ExpectSafe(tiercel::hub::ParseModelScopeListing(text, "master", "URL"));
  return 0;
}
