#include "comm/mpi_transport.h"

// Its C functions alone, not the C++ classes of old.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "comm/waiting.h"

namespace tiercel::comm {
namespace {

constexpr int kTag = 1;
// MPI counts in int.
constexpr int64_t kMaxBytes = int64_t{1} << 30;

Status ErrorOf(const char* call, int code) {
  std::array<char, MPI_MAX_ERROR_STRING + 1> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  return Unavailable("{}: {}", call, text.data());
}

// Rows of bytes as one element.
class RowType {
 public:
  RowType(int64_t rows, int64_t stride, int64_t width) {
    MPI_Type_create_hvector(static_cast<int>(rows), static_cast<int>(width), stride, MPI_BYTE, &type_);
    MPI_Type_commit(&type_);
  }
  ~RowType() { MPI_Type_free(&type_); }
  RowType(const RowType&) = delete;
  RowType& operator=(const RowType&) = delete;
  MPI_Datatype get() const { return type_; }

 private:
  MPI_Datatype type_;
};

class MpiTransport final : public Transport {
 public:
  MpiTransport(Process process, double timeout_seconds, std::vector<std::string> hosts)
      : process_(process), timeout_seconds_(timeout_seconds), hosts_(std::move(hosts)) {}

  ~MpiTransport() override {
    // Who waits in MPI for one that has failed would wait for ever.
    if (failed()) MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Finalize();
  }

  Process process() const override { return process_; }
  std::string NameOf(int process) const override { return DescribeProcess(process, hosts_[static_cast<size_t>(process)]); }

  Status Exchange(std::span<const Transfer> sends, std::span<const Transfer> receives, Patience patience) override {
    if (!error_.ok()) return error_;
    exchange_.Clear();
    error_ = BeginReceives(receives, &exchange_);
    if (error_.ok()) {
      error_ = Begin(sends, &exchange_, [this](auto... args) {
        return MPI_Isend(args..., kTag, MPI_COMM_WORLD, &exchange_.all.back());
      });
    }
    if (error_.ok()) error_ = Finish(patience, &exchange_);
    return error_;
  }

  Status Post(std::span<const Transfer> receives) override {
    if (!error_.ok()) return error_;
    posted_.emplace_back();
    error_ = BeginReceives(receives, &posted_.back());
    return error_;
  }

  Status Await() override {
    if (!error_.ok()) return error_;
    CHECK(!posted_.empty());
    error_ = Finish(Patience::kStep, &posted_.front());
    posted_.pop_front();
    return error_;
  }

  bool failed() const override { return !error_.ok(); }

  // A process that ends without a word is mpirun's to find: it ends all.
  Status Check() const override { return OkStatus(); }

 private:
  struct Requests {
    std::vector<MPI_Request> all;
    std::vector<int> peers;  // of each

    void Clear() {
      all.clear();
      peers.clear();
    }
  };

  // Memory in one piece in parts that MPI can count, other memory by a type of its own.
  template <typename Call>
  Status Begin(std::span<const Transfer> transfers, Requests* requests, Call call) {
    const auto begin = [&](std::byte* data, int64_t count, MPI_Datatype type, int peer) -> Status {
      requests->all.emplace_back(MPI_REQUEST_NULL);
      requests->peers.push_back(peer);
      const int code = call(static_cast<void*>(data), static_cast<int>(count), type, peer);
      return code == MPI_SUCCESS ? OkStatus() : ErrorOf("MPI", code);
    };
    for (const Transfer& t : transfers) {
      if (t.bytes() <= 0) continue;
      if (t.rows > 1 && t.stride != t.width) {
        const RowType type(t.rows, t.stride, t.width);  // which MPI keeps until the transfer is done
        RETURN_IF_ERROR(begin(t.data, 1, type.get(), t.peer));
        continue;
      }
      for (int64_t at = 0; at < t.bytes(); at += kMaxBytes) {
        RETURN_IF_ERROR(begin(t.data + at, std::min(kMaxBytes, t.bytes() - at), MPI_BYTE, t.peer));
      }
    }
    return OkStatus();
  }

  Status BeginReceives(std::span<const Transfer> receives, Requests* requests) {
    return Begin(receives, requests, [requests](auto... args) {
      return MPI_Irecv(args..., kTag, MPI_COMM_WORLD, &requests->all.back());
    });
  }

  // MPI's own waiting spins without an end.
  Status Finish(Patience patience, Requests* requests) {
    Waiting waiting(patience == Patience::kForever ? -1 : timeout_seconds_);
    size_t left = requests->all.size();
    indices_.resize(left);
    statuses_.resize(left);
    while (left > 0) {
      int done = 0;
      const int code = MPI_Testsome(static_cast<int>(requests->all.size()), requests->all.data(), &done, indices_.data(),
                                    statuses_.data());
      if (code != MPI_SUCCESS) return ErrorOf("MPI_Testsome", code);
      if (done > 0) {
        left -= static_cast<size_t>(done);
        waiting.Progressed();
      } else if (waiting.MaySpin()) {
        waiting.Spin();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(patience == Patience::kForever ? 200 : 20));
        if (waiting.over()) return Late(WhoIsLate(*requests), timeout_seconds_);
      }
    }
    return OkStatus();
  }

  std::string WhoIsLate(const Requests& requests) const {
    std::string late;
    for (int peer = 0; peer < process_.count; ++peer) {
      for (size_t i = 0; i < requests.all.size(); ++i) {
        if (requests.all[i] == MPI_REQUEST_NULL || requests.peers[i] != peer) continue;
        late += (late.empty() ? "" : ", ") + NameOf(peer);
        break;
      }
    }
    return late;
  }

  const Process process_;
  const double timeout_seconds_;
  const std::vector<std::string> hosts_;
  Requests exchange_;
  std::deque<Requests> posted_;  // the oldest first
  std::vector<int> indices_;
  std::vector<MPI_Status> statuses_;
  Status error_;
};

}  // namespace

bool HasMpi() { return true; }

Expected<std::unique_ptr<Transport>> ConnectMpi(const MpiOptions& options) {
  int provided = 0;
  const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
  if (code != MPI_SUCCESS) return Unexpected(ErrorOf("MPI_Init_thread", code));
  if (provided < MPI_THREAD_SERIALIZED) {
    return Unexpected(FailedPrecondition("MPI: found thread level {}, expected MPI_THREAD_SERIALIZED", provided));
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  Process process;
  MPI_Comm_rank(MPI_COMM_WORLD, &process.index);
  MPI_Comm_size(MPI_COMM_WORLD, &process.count);
  std::array<char, MPI_MAX_PROCESSOR_NAME> own{};
  int length = 0;
  MPI_Get_processor_name(own.data(), &length);
  std::vector<char> all(own.size() * static_cast<size_t>(process.count));
  MPI_Allgather(own.data(), static_cast<int>(own.size()), MPI_CHAR, all.data(), static_cast<int>(own.size()), MPI_CHAR,
                MPI_COMM_WORLD);
  std::vector<std::string> hosts;
  for (int i = 0; i < process.count; ++i) hosts.emplace_back(all.data() + static_cast<size_t>(i) * own.size());
  return std::make_unique<MpiTransport>(process, options.timeout_seconds, std::move(hosts));
}

}  // namespace tiercel::comm
