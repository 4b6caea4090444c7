#include "comm/agreement.h"

#include <algorithm>
#include <array>
#include <vector>

namespace tiercel::comm {
namespace {

// Each process's, by number.
template <typename T>
Expected<std::vector<T>> AllGather(const T& own, Transport* transport,
                                   Transport::Patience patience = Transport::Patience::kTogether) {
  const Process process = transport->process();
  std::vector<T> all(static_cast<size_t>(process.count));
  all[static_cast<size_t>(process.index)] = own;
  RETURN_IF_ERROR(ExchangeWithAll(
      transport, [&](int peer) { return TransferOf(peer, &own, 1); },
      [&](int peer) { return TransferOf(peer, &all[static_cast<size_t>(peer)], 1); }, patience));
  return all;
}

using Text = std::array<char, 512>;

Text ToText(const std::string& words) {
  Text text{};
  std::copy_n(words.data(), std::min(words.size(), text.size() - 1), text.data());
  return text;
}

struct Report {
  StatusCode code = StatusCode::kOk;
  Text message{};
};

}  // namespace

Status Agree(Status own, Transport* transport, Transport::Patience patience) {
  ASSIGN_OR_RETURN(const std::vector<Report> all,
                   AllGather(Report{own.code(), ToText(own.message())}, transport, patience));
  if (!own.ok()) return own;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].code != StatusCode::kOk) {
      return Status(all[i].code, fmt::format("{}: {}", transport->NameOf(static_cast<int>(i)), all[i].message.data()));
    }
  }
  return OkStatus();
}

Status CheckAlike(const char* what, const std::string& own, Transport* transport) {
  ASSIGN_OR_RETURN(const std::vector<Text> all, AllGather(ToText(own), transport));
  for (size_t i = 1; i < all.size(); ++i) {
    if (all[i] != all[0]) {
      return InvalidArgument("{}: found {} in {}, expected {}, as in {}", what, all[i].data(),
                             transport->NameOf(static_cast<int>(i)), all[0].data(), transport->NameOf(0));
    }
  }
  return OkStatus();
}

Expected<int64_t> Least(int64_t own, Transport* transport) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> all, AllGather(own, transport));
  return *std::min_element(all.begin(), all.end());
}

}  // namespace tiercel::comm
