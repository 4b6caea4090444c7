// The search of `tiercel tune`: which of many settings is the best on a machine whose measurements are noisy.
// Pure logic: what a setting is, and how it is measured, is the caller's.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"

namespace tiercel::bench {

// The number of the value that each knob has; 0 is the one to begin with.
using Setting = std::vector<int>;

struct TuningSpace {
  std::vector<int> num_values;  // of each knob
  // Knobs that act on each other and are tried in all combinations; the groups one after the other, so those
  // that are likely to give most go first. Each knob is in one group.
  std::vector<std::vector<int>> groups;
};

struct TuningRun {
  double score = 0;    // not negative; more is better
  double seconds = 0;  // what it took, preparations included
};
// kInvalidArgument, kUnimplemented and kResourceExhausted: the setting cannot run. All else ends the search.
using MeasureSetting = std::function<Expected<TuningRun>(const Setting& setting)>;

struct TunerOptions {
  double max_seconds = 600;
  double min_gain = 0.01;  // what is surely less than that is not looked for
  // After each run: how many there were, and how many there will be at most, as it looks now. May be null.
  std::function<void(int64_t done, int64_t expected)> on_run;
};

struct Contender {
  Setting setting;
  std::vector<double> scores;  // of each run
  // log(score / the holder's score of the same round). Rounds of the screening, and those of the duel, which
  // alone count for the verdict: whoever is the best of many has been lucky, too.
  std::vector<double> screening, duel;
  std::string refusal;  // why it cannot run
};

enum class Verdict {
  kNotBetter,  // than the noise, or than min_gain: the holder stays
  kBetter,     // the finalist takes the holder's place
  kTimeUp,     // before it was known
};

// The holder against all other settings of a group.
struct Race {
  std::vector<Contender> contenders;  // [0]: the holder
  size_t finalist = 0;                // who came to the duel; 0: nobody did
  Verdict verdict = Verdict::kNotBetter;
};

struct TuningResult {
  Setting best;
  std::vector<Race> races;
  // The start against the best, if that is another; else no contenders. Where it is not surely better, `best` is the
  // start.
  Race last;
  bool complete = false;  // no setting of any group is better than the best, as far as can be told
  int64_t runs = 0;
  double seconds = 0;
};

// Goes through the groups, again and again until none has a better setting or the time is over. A race halves
// the challengers after each round, by what they gained on the holder, until one is left. That one and the holder
// then run in turn until Student's interval at 95 % of what it gains is above zero, or below min_gain, or there have
// been enough rounds. In that way one race in some twenty finds a gain where there is none, so what all of them have come to
// runs in turn with the start, and is the best only if it is better at 99 %. The order within a round is turned round
// with each, so that a machine that drifts favors nobody.
Expected<TuningResult> Tune(const TuningSpace& space, const MeasureSetting& measure,
                            const TunerOptions& options);

// Every combination of all knobs, so many rounds of each: what the search is held against. The one race's
// finalist has the best mean score.
Expected<TuningResult> MeasureAll(const TuningSpace& space, const MeasureSetting& measure, int rounds,
                                  const TunerOptions& options);

}  // namespace tiercel::bench
