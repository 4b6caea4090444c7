// A Transport by MPI, of programs that were built with it (TIERCEL_MPI) and that mpirun has started.
#pragma once

#include <memory>

#include "comm/transport.h"

namespace tiercel::comm {

bool HasMpi();

struct MpiOptions {
  double timeout_seconds = 600;  // for each part of a step
};

// Initializes MPI. Its end finalizes it; or, after an error, ends all processes of the job. Once in a process.
Expected<std::unique_ptr<Transport>> ConnectMpi(const MpiOptions& options);

}  // namespace tiercel::comm
