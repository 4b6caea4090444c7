#include "text/template_pool.h"

#include <csignal>
#include <cstring>

#include "text/template_worker.h"

namespace tiercel::text {
namespace {

struct Answer {
  bool is_error = false;
  std::string text;
};

// False: the worker has ended, or hangs.
bool Exchange(int fd, const TemplateJob& job, Answer* answer) {
  const JobHead head{job.kind, job.source.size(), job.values.size()};
  AnswerHead answered{};
  if (!SendValue(fd, head) || !SendAll(fd, job.source) || !SendAll(fd, job.values) ||
      !ReceiveValue(fd, &answered) || answered.text_bytes > MaxTextBytes(job.bytes())) {
    return false;
  }
  answer->is_error = answered.is_error != 0;
  answer->text.resize(answered.text_bytes);
  return ReceiveAll(fd, answer->text);
}

Status ErrorOf(const WorkerProcess::Ending& ending, const TemplateJob& job) {
  switch (ending.signal) {
    case SIGPROF:
      return InvalidArgument(
          "chat template: took more than the {:.1f} s of processor time that it may",
          MaxSeconds(job.bytes()));
    case SIGABRT:
      return InvalidArgument("chat template: used more than the {} MiB of memory that it may",
                             MaxHeapBytes(job.bytes()) >> 20);
    case SIGSEGV:
    case SIGBUS:
      return InvalidArgument("chat template: nests deeper than it may");
    case 0:
      return Unavailable("chat template: its process ended with exit code {}", ending.exit_code);
    default:
      return Unavailable("chat template: its process was ended by signal {} ({}); try again",
                         ending.signal, ::strsignal(ending.signal));
  }
}

bool WaitUntilReady(const WorkerProcess& worker) {
  char ready = 0;
  return worker.IsConnected() && ReceiveValue(worker.fd(), &ready) && ready == kReady;
}

class Turn {
 public:
  explicit Turn(std::counting_semaphore<>* turns) : turns_(turns) { turns_->acquire(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() { turns_->release(); }

 private:
  std::counting_semaphore<>* turns_;
};

}  // namespace

TemplatePool::TemplatePool(Options options)
    : options_(std::move(options)), turns_(options_.max_workers) {
  idle_.reserve(options_.max_workers);
}

Expected<std::unique_ptr<WorkerProcess>> TemplatePool::StartWorker() const {
  ASSIGN_OR_RETURN(std::unique_ptr<WorkerProcess> worker,
                   WorkerProcess::Start({options_.executable, kTemplateWorkerCommand},
                                        options_.timeout_s));
  if (WaitUntilReady(*worker)) return worker;
  const WorkerProcess::Ending ending = worker->End();
  return Unexpected(Unavailable("{} {}: ended at its start (signal {}, exit code {})",
                                options_.executable, kTemplateWorkerCommand, ending.signal,
                                ending.exit_code));
}

Expected<std::unique_ptr<WorkerProcess>> TemplatePool::TakeWorker() {
  while (true) {
    std::unique_ptr<WorkerProcess> worker;
    {
      const std::lock_guard lock(mutex_);
      if (idle_.empty()) break;
      worker = std::move(idle_.back());
      idle_.pop_back();
    }
    if (WaitUntilReady(*worker)) return worker;  // else it is worn out, or somebody has ended it
  }
  return StartWorker();
}

void TemplatePool::KeepWorker(std::unique_ptr<WorkerProcess> worker) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(worker));
}

Expected<std::string> TemplatePool::Run(const TemplateJob& job) {
  const Turn turn(&turns_);
  ASSIGN_OR_RETURN(std::unique_ptr<WorkerProcess> worker, TakeWorker());
  Answer answer;
  if (!Exchange(worker->fd(), job, &answer)) {
    const bool is_there = worker->IsConnected();
    const WorkerProcess::Ending ending = worker->End();
    if (!is_there) return Unexpected(ErrorOf(ending, job));
    return Unexpected(Unavailable("chat template: its process has not answered for {} s; try again",
                                  options_.timeout_s));
  }
  KeepWorker(std::move(worker));
  if (answer.is_error) return Unexpected(InvalidArgument("{}", answer.text));
  return std::move(answer.text);
}

}  // namespace tiercel::text
