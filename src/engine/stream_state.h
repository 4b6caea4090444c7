// The two ends of one request's output: the engine thread writes, the stream's reader takes.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/engine.h"

namespace tiercel::engine {

class StreamState;
// Streams in a row. A stream brings its own nodes, so that putting it into a list never fails.
using StreamList = std::list<std::shared_ptr<StreamState>>;

class StreamState {
 public:
  StreamState(int num_samples, std::function<void()> on_news);

  // Engine's side. True if the reader had nothing to take before: then call Notify, once the
  // step's other results are in as well. What comes for a sample that has ended is dropped.
  // Push throws std::bad_alloc, and then nothing has changed; PushEnd does not.
  bool Push(int index, OutputToken token, FinishReason finish, std::optional<int32_t> stop_token);
  bool PushEnd(int index, FinishReason finish, const Status& error);  // an end without a token
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

  // The inbox's, guarded by its mutex. What the reader wants of the engine thread:
  struct Wish {
    bool cancel = false;
    std::vector<int> stops;  // samples; has room for all
    StreamList node;         // one, which is in the inbox's list while a wish waits there
  };
  Wish wish;
  bool let_in = false;          // the request was, and the reader has not gone
  int64_t logprob_entries = 0;  // what it counts in the inbox meanwhile
  uint64_t request = 0;         // RequestState::id
  StreamList news_node;  // the engine thread's: one, which is in its list while Notify is due

 private:
  // What has come and was not taken yet.
  struct Sample {
    std::vector<OutputToken> tokens;
    FinishReason finish = FinishReason::kNone;
    std::optional<int32_t> stop_token;
    Status error;
    bool has_news = false;
    bool ended = false;  // the last event has been taken, or Stop was called
  };

  bool AddNews(int index);

  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::vector<Sample> samples_;
  std::vector<int32_t> with_news_;  // samples; has room for all
  int num_open_;                    // samples that are not ended
  std::optional<PromptInfo> prompt_info_;

  std::mutex callback_mutex_;  // held during on_news, so that Close can wait for it
  std::function<void()> on_news_;
};

}  // namespace tiercel::engine
