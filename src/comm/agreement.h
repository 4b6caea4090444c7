// Whether all processes of a job can go on.
#pragma once

#include "base/status.h"
#include "comm/transport.h"

namespace tiercel::comm {

// Every process calls it with its own status. Ok if all are; else this one's own, or that of the first other that has
// one, with its name.
Status Agree(Status own, Transport* transport, Transport::Patience patience = Transport::Patience::kStep);

// Every process calls it with a text of a few words, such as a version; an error if the others' are not the same.
Status CheckAlike(const char* what, const std::string& own, Transport* transport);

// The least of what the processes have.
Expected<int64_t> Least(int64_t own, Transport* transport);

}  // namespace tiercel::comm
