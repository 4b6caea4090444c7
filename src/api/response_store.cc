#include "api/response_store.h"

#include <iterator>

namespace tiercel::api {

namespace {

size_t BytesOf(const KeptResponse& response) {
  const size_t input = response.input != nullptr ? response.input->size() : 0;
  if (!response.ended()) return input + response.run->bytes();
  return input + response.body.size() + (response.events != nullptr ? response.events->bytes() : 0);
}

}  // namespace

ResponseStore::Place ResponseStore::PlaceOf(const std::string& id) {
  const auto found = places_.find(id);
  return found != places_.end() ? found->second : entries_.end();
}

ResponseStore::Place ResponseStore::PlaceOfRun(const std::string& id, const ResponseRun* run) {
  const Place place = PlaceOf(id);
  return place != entries_.end() && place->kept->run.get() == run ? place : entries_.end();
}

ResponseStore::Kept ResponseStore::Erase(Place place) {
  Kept kept = std::move(place->kept);
  bytes_ -= place->bytes;
  places_.erase(place->id);
  entries_.erase(place);
  return kept;
}

bool ResponseStore::MakeRoom(size_t bytes, size_t number, Place spared) {
  const auto fits = [&] {
    return entries_.size() + number <= bounds_.responses && bytes_ + bytes <= bounds_.bytes;
  };
  for (Place place = entries_.begin(); place != entries_.end() && !fits();) {
    const Place next = std::next(place);
    if (place->kept->ended() && place != spared) Erase(place);
    place = next;
  }
  return fits();
}

bool ResponseStore::Resize(Place place, size_t bytes) {
  if (bytes > bounds_.response_bytes) return false;
  if (bytes > place->bytes && !MakeRoom(bytes - place->bytes, 0, place)) return false;
  bytes_ = bytes_ - place->bytes + bytes;
  place->bytes = bytes;
  return true;
}

Status ResponseStore::Put(const std::string& id, KeptResponse response) {
  const size_t bytes = BytesOf(response);
  if (bytes > bounds_.response_bytes) {
    return InvalidArgument(
        "The response cannot be kept: it takes {} bytes with the conversation before it, at most {} are kept of "
        "one. Send it with `store` false.",
        bytes, bounds_.response_bytes);
  }
  std::lock_guard lock(mutex_);
  if (closed_) return Unavailable("The server is shutting down.");
  if (const Place place = PlaceOf(id); place != entries_.end()) {
    if (!place->kept->ended()) return InvalidArgument("A response with the id '{}' is still running.", id);
    Erase(place);
  }
  if (!MakeRoom(bytes, 1, entries_.end())) {
    return Unavailable("No more responses can run in the background now. Try again later.");
  }
  entries_.push_back({id, std::make_shared<const KeptResponse>(std::move(response)), bytes});
  try {
    places_.emplace(id, std::prev(entries_.end()));
  } catch (...) {
    entries_.pop_back();
    throw;
  }
  bytes_ += bytes;
  return OkStatus();
}

bool ResponseStore::Grow(const std::string& id, const ResponseRun* run) {
  std::lock_guard lock(mutex_);
  const Place place = PlaceOfRun(id, run);
  return place == entries_.end() || Resize(place, BytesOf(*place->kept));
}

bool ResponseStore::Finish(const std::string& id, const ResponseRun* run, std::string body,
                           std::shared_ptr<const ResponseEvents> events) {
  Kept before;  // dropped without the lock
  std::lock_guard lock(mutex_);
  const Place place = PlaceOfRun(id, run);
  if (place == entries_.end()) return true;
  KeptResponse ended{std::move(body), place->kept->input, nullptr, std::move(events)};
  if (!Resize(place, BytesOf(ended))) return false;
  before = std::exchange(place->kept, std::make_shared<const KeptResponse>(std::move(ended)));
  return true;
}

ResponseStore::Kept ResponseStore::Find(const std::string& id) const {
  std::lock_guard lock(mutex_);
  const auto found = places_.find(id);
  return found != places_.end() ? found->second->kept : nullptr;
}

ResponseStore::Kept ResponseStore::Cancel(const std::string& id) {
  const Kept before = Find(id);
  if (before == nullptr || before->ended()) return nullptr;
  // It takes no more than the run; that one may have grown meanwhile.
  if (!Finish(id, before->run.get(), before->run->CancelledBody(), before->events)) Remove(id);
  const Kept after = Find(id);
  return after != nullptr && after->ended() ? after : nullptr;
}

bool ResponseStore::Remove(const std::string& id) {
  Kept before;  // dropped without the lock
  std::lock_guard lock(mutex_);
  const Place place = PlaceOf(id);
  if (place == entries_.end()) return false;
  before = Erase(place);
  return true;
}

void ResponseStore::Close() {
  std::list<Entry> entries;  // dropped without the lock
  std::lock_guard lock(mutex_);
  closed_ = true;
  entries.swap(entries_);
  places_.clear();
  bytes_ = 0;
}

std::pair<size_t, size_t> ResponseStore::size() const {
  std::lock_guard lock(mutex_);
  return {entries_.size(), bytes_};
}

}  // namespace tiercel::api
