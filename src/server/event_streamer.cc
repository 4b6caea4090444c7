#include "server/event_streamer.h"

#include <atomic>
#include <string>
#include <utility>

#include "server/router.h"

namespace tiercel::server {

namespace {

// What is written at once: a client that comes late finds many events.
constexpr size_t kPieceBytes = size_t{64} << 10;

// The exchange's callbacks hold it, so it must not hold the exchange.
class EventStreamer final : public api::ResponseEvents::Watcher,
                            public std::enable_shared_from_this<EventStreamer> {
 public:
  EventStreamer(const std::shared_ptr<Exchange>& exchange, std::shared_ptr<const api::ResponseEvents> events,
                int64_t first)
      : exchange_(exchange), events_(std::move(events)), next_(first) {}

  void Start(Exchange& exchange, HttpHeaders headers) {
    exchange.SetCallbacks([self = shared_from_this()] { self->WriteDue(); }, [] {});
    exchange.BeginStream(EventStreamHead(std::move(headers)));
    events_->Watch(weak_from_this());
    WriteDue();
  }

  void OnMore() override {
    const auto exchange = exchange_.lock();
    if (exchange == nullptr || told_.exchange(true)) return;
    try {
      exchange->Post([self = shared_from_this()] { self->WriteDue(); });
    } catch (...) {
      told_.store(false);
      throw;
    }
  }

 private:
  void WriteDue() {
    told_.store(false);
    const auto exchange = exchange_.lock();
    if (ended_ || exchange == nullptr || !exchange->writable()) return;  // called again when it is
    std::string piece;
    const bool open = events_->Read(kPieceBytes, &next_, &piece);
    if (!piece.empty()) exchange->Write(piece);
    if (open) return;
    ended_ = true;
    exchange->EndStream();
  }

  const std::weak_ptr<Exchange> exchange_;
  const std::shared_ptr<const api::ResponseEvents> events_;
  std::atomic<bool> told_{false};
  // I/O thread only.
  int64_t next_;
  bool ended_ = false;
};

}  // namespace

void StreamEvents(const std::shared_ptr<Exchange>& exchange, HttpHeaders headers,
                  std::shared_ptr<const api::ResponseEvents> events, int64_t first) {
  std::make_shared<EventStreamer>(exchange, std::move(events), first)->Start(*exchange, std::move(headers));
}

}  // namespace tiercel::server
