#include "tools/follower.h"

#include <atomic>
#include <csignal>
#include <cstdlib>

#include "base/log.h"
#include "kernels/environment.h"
#include "serving/job.h"
#include "serving/model_path.h"
#include "tools/command.h"
#include "tools/signals.h"

namespace tiercel::tools {
namespace {

Status Follow(serving::ServeConfig* config, const Environ& environ, std::atomic<bool>* serves) {
  ASSIGN_OR_RETURN(const std::string path, serving::FindModel(config->model, config->hub, environ));
  RETURN_IF_ERROR(serving::JoinJob(config, nullptr));
  ASSIGN_OR_RETURN(const auto environments, kernels::CreateEnvironments(config->environment));
  *serves = true;
  return serving::FollowJob(*config, path, environ, environments[0].get());
}

}  // namespace

int RunFollower(serving::ServeConfig config, const Environ& environ) {
  std::atomic<bool> serves = false;
  const SignalWatcher watcher([&](int signal, int count) {
    if (!serves || count > 1) std::_Exit(128 + signal);
    LOG_INFO("{}: ends when the first process does", signal == SIGINT ? "SIGINT" : "SIGTERM");
  });
  if (const Status status = Follow(&config, environ, &serves); !status.ok()) {
    return LoggedFailure(status);
  }
  LOG_INFO("Stopped");
  return kExitOk;
}

}  // namespace tiercel::tools
