#include "tools/options/env_vars.h"

#include <fmt/format.h>

#include <algorithm>

namespace tiercel::tools {
namespace {

struct EnvSpec {
  std::string_view name;
  std::string_view without_effect;  // the reason; empty: the variable is used
};

constexpr EnvSpec kKnown[] = {
    // Used here.
    {"VLLM_LOGGING_LEVEL", ""},
    {"VLLM_API_KEY", ""},
    {"VLLM_SERVER_DEV_MODE", ""},
    {"VLLM_USE_MODELSCOPE", ""},
    {"VLLM_ALLOW_LONG_MAX_MODEL_LEN", ""},
    {"VLLM_CPU_KVCACHE_SPACE", ""},
    {"VLLM_MAX_STOP_STRINGS", ""},
    {"VLLM_MAX_N_SEQUENCES", ""},
    {"VLLM_MAX_COMPLETION_PROMPTS", ""},
    {"VLLM_ASCEND_ENABLE_PREFETCH_MLP", ""},
    {"VLLM_ASCEND_MLP_GATE_UP_PREFETCH_SIZE", ""},
    {"VLLM_ASCEND_MLP_DOWN_PREFETCH_SIZE", ""},
    // vLLM's.
    {"VLLM_BATCH_INVARIANT", "results never depend on the batch here"},
    {"VLLM_USE_V1", "there is one engine"},
    {"VLLM_WORKER_MULTIPROC_METHOD", "one process serves the model"},
    {"VLLM_ENGINE_ITERATION_TIMEOUT_S", "steps are not interrupted"},
    {"VLLM_ALLOW_RUNTIME_LORA_UPDATING", "LoRA adapters come later"},
    {"VLLM_CPU_OMP_THREADS_BIND", "threads follow the affinity mask and the cgroup"},
    {"VLLM_CPU_NUM_OF_RESERVED_CPU", "threads follow the affinity mask and the cgroup"},
    {"VLLM_CPU_SGL_KERNEL", "kernels are chosen by TIERCEL_CPU_ISA or by the CPU"},
    {"VLLM_ATTENTION_BACKEND", "there is one attention, chosen for the CPU"},
    {"VLLM_CONFIGURE_LOGGING", "logging has one form"},
    {"VLLM_LOGGING_CONFIG_PATH", "logging has one form"},
    {"VLLM_NO_USAGE_STATS", "no usage statistics are ever sent"},
    {"VLLM_DO_NOT_TRACK", "no usage statistics are ever sent"},
    {"VLLM_TARGET_DEVICE", "the device is the CPU"},
    {"VLLM_CACHE_ROOT", "nothing is compiled and cached"},
    {"VLLM_CONFIG_ROOT", "there is no such folder"},
    {"VLLM_PLUGINS", "Python plugins cannot be loaded"},
    {"VLLM_TORCH_PROFILER_DIR", "there is no torch profiler"},
    {"VLLM_HOST_IP", "one process serves the model"},
    {"VLLM_PORT", "it is for vLLM's own processes; the server's port is --port"},
    {"VLLM_RPC_TIMEOUT", "one process serves the model"},
    {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "idle connections are kept for 75 s"},
    {"VLLM_ENABLE_RESPONSES_API_STORE", "the Responses API comes later"},
    {"VLLM_ENABLE_V1_MULTIPROCESSING", "one process serves the model"},
    {"VLLM_LOG_STATS_INTERVAL", "statistics are logged every 10 s"},
    {"VLLM_SKIP_P2P_CHECK", "there are no GPUs"},
    // vLLM-Ascend's.
    {"VLLM_ASCEND_ENABLE_FLASHCOMM1", "one rank has nothing to communicate"},
    {"VLLM_ASCEND_ENABLE_FLASHCOMM", "one rank has nothing to communicate"},
    {"VLLM_ASCEND_FLASHCOMM2_PARALLEL_SIZE", "one rank has nothing to communicate"},
    {"VLLM_ASCEND_ENABLE_MATMUL_ALLREDUCE", "one rank has nothing to communicate"},
    {"VLLM_ASCEND_ENABLE_NZ", "weights have the CPU's own layout"},
    {"VLLM_ASCEND_ENABLE_MLAPO", "it is for other models"},
    {"VLLM_ASCEND_ENABLE_FUSED_MC2", "it is for other models"},
    {"VLLM_ASCEND_ENABLE_CONTEXT_PARALLEL", "one process serves the model"},
    {"VLLM_ASCEND_BALANCE_SCHEDULING", "there is one scheduler"},
    // Of the device that the tutorial is written for.
    {"ASCEND_RT_VISIBLE_DEVICES", "CPUs are chosen by the affinity mask (taskset, cpuset)"},
    {"TASK_QUEUE_ENABLE", "there is no device queue"},
    {"HCCL_OP_EXPANSION_MODE", "one rank has nothing to communicate"},
    {"PYTORCH_NPU_ALLOC_CONF", "there is no device allocator"},
};

}  // namespace

EnvReport CheckEnviron(const Environ& environ) {
  EnvReport report;
  for (const auto& [name, value] : environ) {
    const auto* spec = std::find_if(std::begin(kKnown), std::end(kKnown),
                                    [&](const EnvSpec& known) { return known.name == name; });
    if (spec != std::end(kKnown)) {
      if (!spec->without_effect.empty()) {
        report.notices.push_back(
            fmt::format("{}={} has no effect here: {}", name, value, spec->without_effect));
      }
    } else if (name.starts_with("VLLM_")) {
      report.unknown.push_back(name);
    }
  }
  return report;
}

}  // namespace tiercel::tools
