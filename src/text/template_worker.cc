#include "text/template_worker.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "text/ffi.h"
#include "text/ffi_bytes.h"
#include "text/template_message.h"

namespace tiercel::text {
namespace {

// Macros nest up to 128 deep at some kilobytes a level, and values as deep as a request's JSON may.
constexpr rlim_t kStackBytes = rlim_t{16} << 20;
// Heap that a worker keeps between jobs.
constexpr size_t kKeptBytes = size_t{16} << 20;

// `bytes`, or less where the process itself was given less.
bool LimitSoftly(int resource, rlim_t bytes) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0) return false;
  limit.rlim_cur = std::min(bytes, limit.rlim_max);
  return ::setrlimit(resource, &limit) == 0;
}

bool LimitForGood(int resource, rlim_t most) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0) return false;
  limit.rlim_cur = limit.rlim_max = std::min(most, limit.rlim_max);
  return ::setrlimit(resource, &limit) == 0;
}

// Address space in use, 0 if it cannot be told.
size_t AddressSpace() {
  std::FILE* file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  size_t pages = 0;
  const int read = std::fscanf(file, "%zu", &pages);
  std::fclose(file);
  return read == 1 ? pages * static_cast<size_t>(::sysconf(_SC_PAGESIZE)) : 0;
}

// When memory runs out, a worker goes before the server. The last file that it opens.
void VolunteerForTheOomKiller() {
  std::FILE* file = std::fopen("/proc/self/oom_score_adj", "we");
  if (file == nullptr) return;
  std::fputs("1000", file);
  std::fclose(file);
}

// SIGIO tells of everything on the socket, also late of input that was read already. Only its end counts.
void EndIfAlone(int) {
  const int error = errno;
  pollfd other{kTemplateWorkerFd, 0, 0};
  if (::poll(&other, 1, 0) == 1 && (other.revents & (POLLHUP | POLLERR)) != 0) ::_exit(0);
  errno = error;
}

bool GiveUpRights() {
  ::syscall(SYS_close_range, kTemplateWorkerFd + 1, ~0u, 0);
  // The other end alone says when to stop.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) std::signal(signal, SIG_IGN);
  std::signal(SIGIO, EndIfAlone);
  VolunteerForTheOomKiller();
  ::tzset();  // reads its file while it may
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         LimitForGood(RLIMIT_CORE, 0) && LimitForGood(RLIMIT_FSIZE, 0) &&
         LimitForGood(RLIMIT_NPROC, 0) && LimitForGood(RLIMIT_NOFILE, kTemplateWorkerFd + 1) &&
         LimitSoftly(RLIMIT_STACK, kStackBytes) &&
         ::fcntl(kTemplateWorkerFd, F_SETOWN, ::getpid()) == 0;
}

// While this exists, too much processor time (SIGPROF) and the end of the other side (SIGIO) end the
// process: nobody else would end the work of a server that was killed.
class Watch {
 public:
  explicit Watch(double seconds) {
    ::fcntl(kTemplateWorkerFd, F_SETFL, O_ASYNC);
    SetTimer(seconds);
  }
  ~Watch() {
    SetTimer(0);
    ::fcntl(kTemplateWorkerFd, F_SETFL, 0);
  }

 private:
  static void SetTimer(double seconds) {
    itimerval timer{};
    timer.it_value.tv_sec = static_cast<time_t>(seconds);
    timer.it_value.tv_usec = static_cast<suseconds_t>(std::fmod(seconds, 1) * 1e6);
    ::setitimer(ITIMER_PROF, &timer, nullptr);
  }
};

// The template of the job before, since most jobs have the same.
class CompiledTemplate {
 public:
  CompiledTemplate() = default;
  CompiledTemplate(const CompiledTemplate&) = delete;
  CompiledTemplate& operator=(const CompiledTemplate&) = delete;
  ~CompiledTemplate() { tiercel_template_free(handle_); }

  // Null, and `error` is filled, if the source is no template.
  const TiercelTemplate* Get(std::string source, FfiBytes* error) {
    if (handle_ != nullptr && source == source_) return handle_;
    tiercel_template_free(std::exchange(handle_, nullptr));
    handle_ = tiercel_template_compile(FfiData(source), source.size(), error->out());
    source_ = std::move(source);
    return handle_;
  }

 private:
  std::string source_;
  TiercelTemplate* handle_ = nullptr;
};

bool Answer(bool is_error, std::string_view text) {
  return SendValue(kTemplateWorkerFd, AnswerHead{is_error, text.size()}) &&
         SendAll(kTemplateWorkerFd, text);
}

// False: the other side is gone.
bool DoJob(const JobHead& head, CompiledTemplate* compiled) {
  const size_t bytes = head.source_bytes + head.values_bytes;
  std::string source(head.source_bytes, '\0'), values(head.values_bytes, '\0');
  if (!ReceiveAll(kTemplateWorkerFd, source) || !ReceiveAll(kTemplateWorkerFd, values)) return false;
  FfiBytes text, error;
  bool ok = false;
  {
    const Watch watch(MaxSeconds(bytes));
    const TiercelTemplate* chat_template = compiled->Get(std::move(source), &error);
    ok = chat_template != nullptr &&
         (head.kind == TemplateJob::Kind::kCompile ||
          tiercel_template_render(chat_template, FfiData(values), values.size(), text.out(),
                                  error.out()));
  }
  if (!ok) return Answer(true, error.view());
  if (text.view().size() > MaxTextBytes(bytes)) {
    return Answer(true, fmt::format("chat template: wrote {} bytes, expected at most {}",
                                    text.view().size(), MaxTextBytes(bytes)));
  }
  return Answer(false, text.view());
}

// Whether what jobs have left behind is worth a new process.
bool IsWornOut() {
  const auto held = [] {
    const struct mallinfo2 info = ::mallinfo2();
    return info.arena + info.hblkhd;
  };
  if (held() <= kKeptBytes) return false;
  ::malloc_trim(0);
  return held() > kKeptBytes;
}

}  // namespace

int RunTemplateWorker() {
  const size_t address_space = AddressSpace();
  if (address_space == 0 || !GiveUpRights()) return 1;
  CompiledTemplate compiled;
  while (!IsWornOut()) {
    JobHead head{};
    if (!SendValue(kTemplateWorkerFd, kReady) || !ReceiveValue(kTemplateWorkerFd, &head)) return 0;
    if (!LimitSoftly(RLIMIT_AS, address_space + MaxHeapBytes(head.source_bytes + head.values_bytes)) ||
        !DoJob(head, &compiled)) {
      return 0;
    }
  }
  return 0;
}

}  // namespace tiercel::text
