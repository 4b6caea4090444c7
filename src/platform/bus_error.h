// What a SIGBUS means. The kernel sends it where nothing stands behind a mapped address: a file that
// another process has made shorter, a disk that cannot be read, a huge page that a limit refuses. No
// check beforehand can rule that out, so the process ends with one line that says which memory it was.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace tiercel::platform {

// Names memory for the report for as long as it lives. Any thread may make and destroy them.
class NamedMemory {
 public:
  NamedMemory() = default;
  // `meaning` is the line: what is at fault, and what to do.
  NamedMemory(const void* begin, size_t bytes, const std::string& meaning);
  NamedMemory(NamedMemory&& other) noexcept = default;
  NamedMemory& operator=(NamedMemory&& other) noexcept = default;

  struct Entry;  // the handler's view of it

 private:
  struct Forget {
    void operator()(Entry* entry) const;
  };
  std::unique_ptr<Entry, Forget> entry_;
};

// From now on a SIGBUS in named memory ends the process with exit code 1 and its line on stderr; any
// other one as without this. Called once by a main, since a process has one handler of a signal.
void ReportBusErrors();

}  // namespace tiercel::platform
