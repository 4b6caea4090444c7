// Environment variables of vLLM and its Ascend plugin: which of them mean something here.
#pragma once

#include <string>
#include <vector>

#include "base/environ.h"

namespace tiercel::tools {

struct EnvReport {
  std::vector<std::string> notices;  // known, and without effect here
  std::vector<std::string> unknown;  // VLLM_* that nothing knows
};
EnvReport CheckEnviron(const Environ& environ);

}  // namespace tiercel::tools
