// ProgressBar: one line on standard error that fills up, on a terminal; silent elsewhere.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/human_bytes.h"

namespace tiercel::serving {

// What is done of a total, with the rate. Update may be called from many threads; it draws at most
// ten times a second. The line is ended by Finish or the
// destructor.
class ProgressBar {
 public:
  enum class Unit { kBytes, kTokens, kRequests, kIterations };

  // `enabled` false, or a standard error that is no terminal: nothing is drawn.
  ProgressBar(std::string label, bool enabled, Unit unit = Unit::kBytes);
  ~ProgressBar() { Finish(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Update(int64_t done, int64_t total);
  void Finish();  // ends the line, if there is one

 private:
  void Draw(int64_t done, int64_t total, double now);
  std::string Human(int64_t amount) const;

  const std::string label_;
  const bool enabled_;
  const Unit unit_;
  const double start_;
  std::mutex mutex_;
  double last_drawn_ = 0;
  bool drawn_ = false;
};

}  // namespace tiercel::serving
