// What `tiercel tune` tries: the flags of `tiercel serve` that change how fast a load runs, with values that fit
// the load and the machine.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/tuner.h"

namespace tiercel::bench {

struct TuningSubject {
  int64_t concurrency = 1;     // requests at a time
  int64_t longest_prompt = 1;  // tokens
  int cores = 1, nodes = 1;    // that the process has
  int64_t num_heads = 1, num_kv_heads = 1;
  bool float_weights = true;  // which could be quantized while loading
  bool float_cache = true;    // the KV cache that the model comes with
  bool exact = false;         // leave out values that change the tokens
};

struct TuningValue {
  std::vector<std::string> words;  // of a command line
  bool changes_tokens = false;     // other numbers, or another order of sums
};

struct TuningKnob {
  std::string name;
  std::vector<TuningValue> values;  // [0] has no words: the knob as it is without the tuner
};

struct TuningKnobs {
  std::vector<TuningKnob> knobs;
  TuningSpace space;

  std::vector<std::string> WordsOf(const Setting& setting) const;
  bool ChangesTokens(const Setting& setting) const;
};

// Flags that `given` says the user has given are not varied, and neither are knobs that are not in `names` (empty:
// all are). kInvalidArgument for a name that is none.
Expected<TuningKnobs> MakeTuningKnobs(const TuningSubject& subject,
                                      const std::function<bool(std::string_view flag)>& given,
                                      const std::vector<std::string>& names);

// Every name that --knobs takes.
const std::vector<std::string>& TuningKnobNames();

}  // namespace tiercel::bench
