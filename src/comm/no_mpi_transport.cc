// Of a build without MPI.
#include "comm/mpi_transport.h"

namespace tiercel::comm {

bool HasMpi() { return false; }

Expected<std::unique_ptr<Transport>> ConnectMpi(const MpiOptions&) {
  return Unexpected(FailedPrecondition("this build has no MPI"));
}

}  // namespace tiercel::comm
