// Where the requests of a batch come from and where its answers go: a file, a device or a pipe, a URL.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "net/http_client.h"

namespace tiercel::tools {

struct BatchPlaces {
  std::string input, output;
  std::string folder;  // for what is no file, meanwhile
};

// "PATH: what: strerror(errno)".
Status FileError(const std::string& path, std::string_view what);

// The requests as a file that can be read several times: the user's, or a nameless copy that goes with this.
struct InputFile {
  std::string name;  // for messages
  std::string path;
  int fd = -1;
  InputFile() = default;
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile();
};
Status TakeInput(const BatchPlaces& places, net::HttpClient* client, const std::atomic<bool>& stop, InputFile* input);

// Where the answers go in the end, known before anything is computed.
struct OutputPlace {
  enum class Kind {
    kFile,    // `path`, which is no link, gets a new file
    kStream,  // what is there is written into: a device, a FIFO, standard output
    kUrl,
  };
  Kind kind = Kind::kFile;
  std::string path;
  // In front of the name of the file that collects the answers.
  std::string collected;
};
// What cannot take answers is the user's fault, and so is an output that is also the input.
Expected<OutputPlace> FindOutput(const BatchPlaces& places);

// The answers of `collected` go there, and the file goes; where that fails it stays.
Status Deliver(const std::string& collected, const OutputPlace& place, net::HttpClient* client);

}  // namespace tiercel::tools
