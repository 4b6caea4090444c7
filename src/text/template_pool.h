// TemplatePool: the processes that render chat templates (text/template_worker.h says why there are
// any). They are started when they are needed, stay for the next template, and end with the pool.
#pragma once

#include <memory>
#include <mutex>
#include <semaphore>
#include <string>
#include <vector>

#include "base/status.h"
#include "text/template_message.h"
#include "text/worker_process.h"

namespace tiercel::text {

class TemplatePool {
 public:
  struct Options {
    // The tiercel program. A library in someone else's process has to name it.
    std::string executable = "/proc/self/exe";
    int max_workers = 4;
    // For a worker that is stopped, or a machine that hangs: its own bounds are in processor time.
    int timeout_s = 60;
  };
  explicit TemplatePool(Options options);
  ~TemplatePool() = default;  // no job may be left

  // The text of kRender, nothing of kCompile. Any thread; waits while all workers are busy.
  // InvalidArgument: the template is at fault, or uses more than it may. Unavailable: a worker could
  // not be started, or somebody else has ended it; the next job gets another one.
  Expected<std::string> Run(const TemplateJob& job);

 private:
  // A worker that is ready for a job.
  Expected<std::unique_ptr<WorkerProcess>> TakeWorker();
  Expected<std::unique_ptr<WorkerProcess>> StartWorker() const;
  void KeepWorker(std::unique_ptr<WorkerProcess> worker);

  const Options options_;
  std::counting_semaphore<> turns_;  // as many jobs at a time as there may be workers
  std::mutex mutex_;
  std::vector<std::unique_ptr<WorkerProcess>> idle_;  // under mutex_; the last used is the last
};

}  // namespace tiercel::text
