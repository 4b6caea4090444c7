// Whether all processes of a job can go on, and what each of them has for all.
#pragma once

#include <vector>

#include "base/status.h"
#include "comm/transport.h"

namespace tiercel::comm {

// One transfer to each other process, and one from each: send(peer) and receive(peer).
template <typename Send, typename Receive>
Status ExchangeWithAll(Transport* transport, Send send, Receive receive,
                       Transport::Patience patience = Transport::Patience::kStep) {
  const Process process = transport->process();
  std::vector<Transfer> sends, receives;
  for (int peer = 0; peer < process.count; ++peer) {
    if (peer == process.index) continue;
    sends.push_back(send(peer));
    receives.push_back(receive(peer));
  }
  return transport->Exchange(sends, receives, patience);
}

// Every process calls it with its own status. Ok if all are; else this one's own, or that of the first other that has
// one, with its name.
Status Agree(Status own, Transport* transport, Transport::Patience patience = Transport::Patience::kTogether);

// Every process calls it with a text of a few words, such as a version; an error if the others' are not the same.
Status CheckAlike(const char* what, const std::string& own, Transport* transport);

// The least of what the processes have.
Expected<int64_t> Least(int64_t own, Transport* transport);

}  // namespace tiercel::comm
