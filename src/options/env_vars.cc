#include "options/env_vars.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "options/human_int.h"

namespace tiercel::options {
namespace {

enum class Is { kText, kSwitch, kInt, kFloat, kLevel };

struct EnvSpec {
  std::string_view name;
  std::string_view without_effect;  // the reason; empty: the variable is used
  Is is = Is::kText;
  double min = 0, max = 0;  // of a number
};

constexpr double kMaxCount = 1 << 20;
constexpr double kMaxBytes = 1e15;

constexpr EnvSpec kKnown[] = {
    // Used here.
    {"VLLM_LOGGING_LEVEL", "", Is::kLevel},
    {"VLLM_API_KEY", ""},
    {"VLLM_SERVER_DEV_MODE", "", Is::kSwitch},
    {"VLLM_ENABLE_RESPONSES_API_STORE", "", Is::kSwitch},
    {"VLLM_USE_MODELSCOPE", "", Is::kSwitch},
    {"VLLM_ALLOW_LONG_MAX_MODEL_LEN", "", Is::kSwitch},
    {"VLLM_CPU_KVCACHE_SPACE", "", Is::kFloat, 0, 1e6},  // GiB
    {"VLLM_CPU_OMP_THREADS_BIND", ""},
    {"VLLM_CPU_NUM_OF_RESERVED_CPU", "", Is::kInt, 0, kMaxCount},
    {"VLLM_PP_LAYER_PARTITION", ""},
    {"VLLM_MAX_STOP_STRINGS", "", Is::kInt, 1, kMaxCount},
    {"VLLM_MAX_N_SEQUENCES", "", Is::kInt, 1, kMaxCount},
    {"VLLM_MAX_COMPLETION_PROMPTS", "", Is::kInt, 1, kMaxCount},
    {"VLLM_ASCEND_ENABLE_PREFETCH_MLP", "", Is::kSwitch},
    {"VLLM_ASCEND_MLP_GATE_UP_PREFETCH_SIZE", "", Is::kInt, 0, kMaxBytes},
    {"VLLM_ASCEND_MLP_DOWN_PREFETCH_SIZE", "", Is::kInt, 0, kMaxBytes},
    {"HF_HUB_OFFLINE", "", Is::kSwitch},
    {"TRANSFORMERS_OFFLINE", "", Is::kSwitch},
    // vLLM's.
    {"VLLM_BATCH_INVARIANT", "results never depend on the batch here"},
    {"VLLM_USE_V1", "there is one kind of engine"},
    {"VLLM_WORKER_MULTIPROC_METHOD", "one process serves the model"},
    {"VLLM_ENGINE_ITERATION_TIMEOUT_S", "steps are not interrupted"},
    {"VLLM_ALLOW_RUNTIME_LORA_UPDATING", "LoRA adapters come later"},
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
    {"VLLM_RPC_BASE_PATH", "engines are threads of the server's process"},
    {"VLLM_IMAGE_FETCH_TIMEOUT", "nothing is fetched for a request, and there are no images"},
    {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "idle connections are kept for 75 s"},
    {"VLLM_ENABLE_V1_MULTIPROCESSING", "one process serves the model"},
    {"VLLM_LOG_STATS_INTERVAL", "statistics are logged every 10 s"},
    {"VLLM_SKIP_P2P_CHECK", "there are no GPUs"},
    // vLLM-Ascend's.
    {"VLLM_ASCEND_ENABLE_FLASHCOMM1", "", Is::kSwitch},
    {"VLLM_ASCEND_ENABLE_FLASHCOMM", "", Is::kSwitch},
    {"VLLM_ASCEND_FLASHCOMM2_PARALLEL_SIZE", "the output projection is shared out as the rest is"},
    {"VLLM_ASCEND_ENABLE_MATMUL_ALLREDUCE", "", Is::kSwitch},
    {"VLLM_ASCEND_ENABLE_NZ", "weights have the CPU's own layout"},
    {"VLLM_ASCEND_ENABLE_MLAPO", "it is for other models"},
    {"VLLM_ASCEND_ENABLE_FUSED_MC2", "it is for other models"},
    {"VLLM_ASCEND_ENABLE_CONTEXT_PARALLEL", "one process serves the model"},
    {"VLLM_ASCEND_BALANCE_SCHEDULING", "there is one scheduler"},
    // Of the device that the tutorial is written for.
    {"ASCEND_RT_VISIBLE_DEVICES", "CPUs are chosen by the affinity mask (taskset, cpuset)"},
    {"TASK_QUEUE_ENABLE", "there is no device queue"},
    {"HCCL_OP_EXPANSION_MODE", "ranks share their memory"},
    {"PYTORCH_NPU_ALLOC_CONF", "there is no device allocator"},
};

const EnvSpec* FindSpec(std::string_view name) {
  const auto* spec = std::find_if(std::begin(kKnown), std::end(kKnown),
                                  [&](const EnvSpec& known) { return known.name == name; });
  return spec == std::end(kKnown) ? nullptr : spec;
}

// What was expected, if `text` is not it.
std::optional<std::string> Fault(const EnvSpec& spec, const std::string& text) {
  const auto within = [&](double value) { return value >= spec.min && value <= spec.max; };
  switch (spec.is) {
    case Is::kText: return std::nullopt;
    case Is::kSwitch:
      return ParseSwitch(text) ? std::nullopt : std::optional<std::string>("1 or 0");
    case Is::kLevel:
      return ParseLogLevel(text) ? std::nullopt
                                 : std::optional<std::string>(
                                       "one of DEBUG, INFO, WARNING, ERROR, CRITICAL");
    case Is::kInt: {
      const auto value = ParseInt(text);
      if (value && within(static_cast<double>(*value))) return std::nullopt;
      return fmt::format("an integer from {:.0f} to {:.0f}", spec.min, spec.max);
    }
    case Is::kFloat: {
      const auto value = ParseFloat(text);
      if (value && within(*value)) return std::nullopt;
      return fmt::format("a number from {:.0f} to {:.0f}", spec.min, spec.max);
    }
  }
  return std::nullopt;
}

}  // namespace

Status CheckEnvironValues(const Environ& environ) {
  for (const auto& [name, value] : environ) {
    const EnvSpec* spec = FindSpec(name);
    const std::string text = PlainValue(value);
    if (spec == nullptr || text.empty()) continue;
    if (const auto expected = Fault(*spec, text)) {
      return InvalidArgument("{}: found '{}', expected {}", name, value, *expected);
    }
  }
  return OkStatus();
}

std::optional<int64_t> EnvInt(const Environ& environ, std::string_view name) {
  const auto value = ParseInt(PlainValue(EnvValue(environ, name)));
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<double> EnvFloat(const Environ& environ, std::string_view name) {
  const auto value = ParseFloat(PlainValue(EnvValue(environ, name)));
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<LogLevel> ParseLogLevel(std::string_view name) {
  constexpr std::pair<std::string_view, LogLevel> kLevels[] = {
      {"", LogLevel::info},       {"debug", LogLevel::debug},  {"info", LogLevel::info},
      {"warn", LogLevel::warn},   {"warning", LogLevel::warn}, {"error", LogLevel::err},
      {"fatal", LogLevel::critical}, {"critical", LogLevel::critical}};
  const std::string plain = PlainValue(name);
  for (const auto& [known, level] : kLevels) {
    if (plain == known) return level;
  }
  return std::nullopt;
}

LogLevel EnvLogLevel(const Environ& environ) {
  return ParseLogLevel(EnvValue(environ, "VLLM_LOGGING_LEVEL")).value_or(LogLevel::info);
}

EnvReport CheckEnviron(const Environ& environ) {
  EnvReport report;
  for (const auto& [name, value] : environ) {
    if (const EnvSpec* spec = FindSpec(name); spec != nullptr) {
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

}  // namespace tiercel::options
