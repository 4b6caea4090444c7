// What `tiercel tune` has found, as text, as a picture and as JSON.
#pragma once

#include <string>
#include <vector>

#include "api/json.h"
#include "bench/tuner.h"
#include "bench/tuning_goal.h"
#include "bench/tuning_knobs.h"

namespace tiercel::bench {

struct TuningReport {
  std::string load, goal;  // as given
  TuningGoal figure;
  TuningKnobs knobs;
  TuningResult result;
  std::vector<std::string> command;  // without the tuner's words: tiercel serve MODEL and what was given
  bool grid = false;                 // MeasureAll's
  double max_seconds = 600;
};

// Every setting that ran, race by race: its figure, what it gained on the holder with the interval that holds the
// truth in 95 of 100 cases, and what became of it; then in words what to use and why.
std::string RenderTuning(const TuningReport& report);
// A bar for each setting's mean figure with a dot for each run, as one SVG document. Of more settings than it has rows,
// the first.
std::string RenderTuningPlot(const TuningReport& report);
api::Json TuningJson(const TuningReport& report);

// The command line to use.
std::vector<std::string> TunedCommand(const TuningReport& report);

// Words as a shell takes them, quoted where they have to be.
std::string ShellText(const std::vector<std::string>& words);

}  // namespace tiercel::bench
