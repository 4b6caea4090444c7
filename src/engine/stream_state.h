// The two ends of one request's output: the engine thread writes, the stream's reader takes.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/engine.h"

namespace tiercel::engine {

class StreamState {
 public:
  StreamState(int num_samples, std::function<void()> on_news);

  // Engine's side. True if the reader had nothing to take before: then call Notify, once the
  // step's other results are in as well.
  bool Push(int index, OutputToken token, FinishReason finish, std::optional<int32_t> stop_token);
  bool PushEnd(int index, FinishReason finish, Status error);  // an end without a token
  void SetPromptInfo(PromptInfo info);
  // Calls on_news, unless the reader is gone.
  void Notify();

  // Reader's side.
  bool Poll(std::vector<StreamEvent>* events);
  bool Wait(double seconds);
  bool MarkStopped(int index);  // false if the sample has ended already
  bool finished() const;
  std::optional<PromptInfo> TakePromptInfo();
  // After it on_news is not called any more.
  void Close();

 private:
  StreamEvent* EventOf(int index);

  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::vector<StreamEvent> pending_;
  std::vector<int32_t> place_;  // by sample: index of its event in pending_, or −1
  std::vector<bool> ended_;     // by sample: the last event has been taken, or Stop was called
  int num_open_;                // samples that are not ended
  std::optional<PromptInfo> prompt_info_;

  std::mutex callback_mutex_;  // held during on_news, so that Close can wait for it
  std::function<void()> on_news_;
};

}  // namespace tiercel::engine
