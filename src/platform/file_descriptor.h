// A file descriptor that is closed with its scope.
#pragma once

#include <unistd.h>

namespace tiercel::platform {

struct FileDescriptor {
  explicit FileDescriptor(int opened) : fd(opened) {}
  ~FileDescriptor() {
    if (fd >= 0) close(fd);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  const int fd;  // negative: opening it has failed
};

}  // namespace tiercel::platform
