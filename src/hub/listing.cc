#include "hub/listing.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/ascii_case.h"

namespace tiercel::hub {
namespace {

using Json = nlohmann::json;

// The object that `text` is, of its outermost members only those of `members`. What else a hub says
// (cards, tags, widgets) is not kept.
Expected<Json> ParseObject(std::string_view text, const std::array<std::string_view, 2>& members,
                           const std::string& where) {
  if (static_cast<int64_t>(text.size()) > kMaxListingBytes) {
    return Unexpected(FailedPrecondition("{}: found {} bytes, expected at most {}", where,
                                         text.size(), kMaxListingBytes));
  }
  int64_t values = 0;
  const auto keep = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (++values > kMaxListingValues) return false;
    return event != Json::parse_event_t::key || depth != 1 ||
           std::find(members.begin(), members.end(), parsed.get_ref<const std::string&>()) !=
               members.end();
  };
  Json json = Json::parse(text, keep, /*allow_exceptions=*/false);
  if (values > kMaxListingValues) {
    return Unexpected(FailedPrecondition("{}: found a listing of more than {} values", where,
                                         kMaxListingValues));
  }
  if (!json.is_object()) {
    return Unexpected(FailedPrecondition("{}: the answer is no JSON object", where));
  }
  return json;
}

// The member's text, "" where there is none.
std::string StringMember(const Json& object, const char* key) {
  const auto it = object.is_object() ? object.find(key) : object.end();
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

std::string HashMember(const Json& object, const char* key, size_t size) {
  std::string hash = LowerCase(StringMember(object, key));
  return IsHex(hash, size) ? hash : "";
}

const Json* Member(const Json& object, const char* key) {
  const auto it = object.is_object() ? object.find(key) : object.end();
  return it != object.end() && !it->is_null() ? &*it : nullptr;
}

std::string Shown(std::string_view name) {
  constexpr size_t kMost = 100;
  return name.size() <= kMost ? std::string(name) : std::string(name.substr(0, kMost)) + "…";
}

// Adds files one by one, each checked.
class FileList {
 public:
  FileList(const std::string& where, std::vector<HubFile>* files) : where_(where), files_(*files) {}

  // `size`: the hub's value for it, null where it gives none.
  Status Add(HubFile file, const Json* size) {
    if (!IsSafePath(file.path)) {
      return FailedPrecondition("{}: lists a file '{}', which is no plain path below a folder",
                                where_, Shown(file.path));
    }
    if (!names_.insert(file.path).second) {
      return FailedPrecondition("{}: lists the file '{}' twice", where_, Shown(file.path));
    }
    if (size != nullptr) {
      const int64_t most = kMaxRepositoryBytes - total_;
      if (!size->is_number_unsigned() || size->get<uint64_t>() > static_cast<uint64_t>(most)) {
        return FailedPrecondition("{}: the size of '{}' is {}, expected bytes, {} at most in all",
                                  where_, Shown(file.path),
                                  size->is_number() ? Shown(size->dump()) : "no number",
                                  kMaxRepositoryBytes);
      }
      file.size = size->get<int64_t>();
      total_ += file.size;
    }
    files_.push_back(std::move(file));
    return OkStatus();
  }

 private:
  const std::string& where_;
  std::vector<HubFile>& files_;
  std::unordered_set<std::string> names_;
  int64_t total_ = 0;
};

Status CheckList(const Json* list, const char* name, const std::string& where) {
  if (list == nullptr || !list->is_array()) {
    return FailedPrecondition("{}: the answer has no list {}", where, name);
  }
  if (list->size() > kMaxFiles) {
    return FailedPrecondition("{}: lists {} files, expected at most {}", where, list->size(),
                              kMaxFiles);
  }
  return OkStatus();
}

}  // namespace

bool IsHex(std::string_view text, size_t size) {
  return text.size() == size && text.find_first_not_of("0123456789abcdef") == text.npos;
}

bool IsSafeName(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), [](char c) {
           const auto byte = static_cast<unsigned char>(c);
           return byte < 0x20 || byte == 0x7f || c == '/' || c == '\\';
         });
}

bool IsSafePath(std::string_view path) {
  if (path.size() > kMaxPathBytes) return false;
  while (true) {
    const size_t slash = path.find('/');
    if (!IsSafeName(path.substr(0, slash))) return false;
    if (slash == path.npos) return true;
    path.remove_prefix(slash + 1);
  }
}

Expected<Listing> ParseHuggingFaceListing(std::string_view text, const std::string& where) {
  ASSIGN_OR_RETURN(const Json answer, ParseObject(text, {"sha", "siblings"}, where));
  Listing listing;
  listing.commit = HashMember(answer, "sha", 40);
  if (listing.commit.empty()) {
    return Unexpected(FailedPrecondition("{}: the answer names no commit (sha)", where));
  }
  const Json* siblings = Member(answer, "siblings");
  RETURN_IF_ERROR(CheckList(siblings, "siblings", where));
  FileList list(where, &listing.files);
  for (const Json& sibling : *siblings) {
    HubFile file;
    file.path = StringMember(sibling, "rfilename");
    file.git_sha1 = HashMember(sibling, "blobId", 40);
    const Json* size = Member(sibling, "size");
    if (const Json* lfs = Member(sibling, "lfs"); lfs != nullptr) {
      // The same hash has two names, by the route that is asked.
      file.sha256 = HashMember(*lfs, "sha256", 64);
      if (file.sha256.empty()) file.sha256 = HashMember(*lfs, "oid", 64);
      if (const Json* lfs_size = Member(*lfs, "size"); lfs_size != nullptr) size = lfs_size;
      file.git_sha1.clear();  // of the pointer to the content, not of the content
    }
    RETURN_IF_ERROR(list.Add(std::move(file), size));
  }
  return listing;
}

Expected<Listing> ParseModelScopeListing(std::string_view text, const std::string& revision,
                                         const std::string& where) {
  ASSIGN_OR_RETURN(const Json answer, ParseObject(text, {"Data", "Data"}, where));
  const Json* data = Member(answer, "Data");
  const Json* files = data != nullptr ? Member(*data, "Files") : nullptr;
  RETURN_IF_ERROR(CheckList(files, "Data.Files", where));
  Listing listing;
  listing.commit = revision;
  FileList list(where, &listing.files);
  for (const Json& entry : *files) {
    if (StringMember(entry, "Type") == "tree") continue;
    HubFile file;
    file.path = StringMember(entry, "Path");
    file.sha256 = HashMember(entry, "Sha256", 64);
    RETURN_IF_ERROR(list.Add(std::move(file), Member(entry, "Size")));
  }
  return listing;
}

}  // namespace tiercel::hub
