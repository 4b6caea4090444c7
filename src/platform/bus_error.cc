#include "platform/bus_error.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <utility>

#include "base/status.h"

namespace tiercel::platform {

struct NamedMemory::Entry {
  uintptr_t begin = 0;
  uintptr_t end = 0;
  std::string line;
};

namespace {

// Of the process, as a signal's handler is. A checkpoint has hundreds of files at most; what finds no
// place stays unnamed.
constexpr size_t kPlaces = 1024;
std::array<std::atomic<const NamedMemory::Entry*>, kPlaces> places{};

// Calls nothing that is not async-signal-safe.
void OnBusError(int signal, siginfo_t* info, void*) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (const auto& place : places) {
    const NamedMemory::Entry* entry = place.load(std::memory_order_acquire);
    if (entry == nullptr || address < entry->begin || address >= entry->end) continue;
    (void)!write(STDERR_FILENO, entry->line.data(), entry->line.size());
    _exit(1);
  }
  std::signal(signal, SIG_DFL);  // the instruction is tried again, and ends the process
}

}  // namespace

NamedMemory::NamedMemory(const void* begin, size_t bytes, const std::string& meaning)
    : entry_(new Entry{reinterpret_cast<uintptr_t>(begin),
                       reinterpret_cast<uintptr_t>(begin) + bytes,
                       "tiercel: error: " + FailedPrecondition("{}", meaning).message() + "\n"}) {
  for (auto& place : places) {
    const Entry* none = nullptr;
    if (place.compare_exchange_strong(none, entry_.get(), std::memory_order_acq_rel)) return;
  }
}

void NamedMemory::Forget::operator()(Entry* entry) const {
  for (auto& place : places) {
    const Entry* expected = entry;
    if (place.compare_exchange_strong(expected, nullptr, std::memory_order_acq_rel)) break;
  }
  delete entry;
}

void ReportBusErrors() {
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace tiercel::platform
