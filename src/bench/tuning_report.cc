#include "bench/tuning_report.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "bench/confidence.h"
#include "bench/svg_chart.h"

namespace tiercel::bench {
namespace {

using api::Json;

constexpr std::string_view kAsGiven = "(as given)";

double AsPercent(double log_ratio) { return std::expm1(log_ratio) * 100; }

std::string NameOf(const TuningReport& report, const Setting& setting) {
  const std::vector<std::string> words = report.knobs.WordsOf(setting);
  return words.empty() ? std::string(kAsGiven) : ShellText(words);
}

// The gain and how sure it is: of the duel, where there was one, else what the screening's few rounds hint at.
std::string GainOf(const Contender& contender) {
  const std::vector<double>& gains = contender.duel.empty() ? contender.screening : contender.duel;
  if (gains.empty()) return "";
  const Interval interval = ConfidenceInterval(gains, Confidence::k95);
  const std::string mean = fmt::format("{:+.1f} %", AsPercent(interval.mean));
  if (contender.duel.size() < 2) return mean;
  return fmt::format("{} ({:+.1f} … {:+.1f})", mean, AsPercent(interval.low()),
                     AsPercent(interval.high()));
}

std::string FateOf(const Race& race, size_t index, bool grid) {
  const Contender& contender = race.contenders[index];
  if (!contender.refusal.empty()) return "cannot run: " + contender.refusal;
  if (contender.scores.empty()) return "not measured, the time was over";
  if (grid) return index == race.finalist ? "best mean" : "";
  if (index == 0) return race.verdict == Verdict::kBetter ? "beaten" : "stays";
  if (index != race.finalist) {
    return race.finalist == 0 ? "undecided, the time was over" : "left behind in the screening";
  }
  switch (race.verdict) {
    case Verdict::kBetter: return "better";
    case Verdict::kTimeUp: return "undecided, the time was over";
    case Verdict::kNotBetter: return "not better than the noise";
  }
  return "";
}

// Which knobs a race's settings vary.
std::vector<bool> VariedIn(const Race& race) {
  std::vector<bool> varied(race.contenders[0].setting.size());
  for (const Contender& contender : race.contenders) {
    for (size_t knob = 0; knob < varied.size(); ++knob) {
      if (contender.setting[knob] != race.contenders[0].setting[knob]) varied[knob] = true;
    }
  }
  return varied;
}

std::string KnobsOf(const TuningReport& report, const Race& race) {
  const std::vector<bool> varied = VariedIn(race);
  std::string text;
  for (size_t knob = 0; knob < varied.size(); ++knob) {
    if (varied[knob]) text += fmt::format("{}{}", text.empty() ? "" : ", ", report.knobs.knobs[knob].name);
  }
  return text;
}

// Of a setting the words of the knobs that the race varies, or does not vary.
std::string NameWithin(const TuningReport& report, const Race& race, Setting setting, bool of_varied) {
  const std::vector<bool> varied = VariedIn(race);
  for (size_t knob = 0; knob < varied.size(); ++knob) {
    if (varied[knob] != of_varied) setting[knob] = 0;
  }
  return NameOf(report, setting);
}

// What all settings of a race have.
std::string Common(const TuningReport& report, const Race& race) {
  const std::string words = NameWithin(report, race, race.contenders[0].setting, false);
  return words == kAsGiven ? "" : " (with " + words + ")";
}

std::string RenderRace(const TuningReport& report, const Race& race, std::string_view title) {
  std::string text = fmt::format("\n{}{}\n  {:>5} {:>16}  {:<28} {}\n", title, Common(report, race), "runs",
                                 report.figure.unit(), "gain (95 % sure)", "setting");
  for (size_t i = 0; i < race.contenders.size(); ++i) {
    const Contender& contender = race.contenders[i];
    const std::string fate = FateOf(race, i, report.grid);
    text += fmt::format("  {:>5} {:>16}  {:<28} {}{}\n", contender.scores.size(),
                        contender.scores.empty()
                            ? ""
                            : fmt::format("{:.4g}", report.figure.Figure(Mean(contender.scores))),
                        GainOf(contender), NameWithin(report, race, contender.setting, true),
                        fate.empty() ? "" : fmt::format(" [{}]", fate));
  }
  return text;
}

std::string Conclusion(const TuningReport& report) {
  const TuningResult& result = report.result;
  const Setting start(report.knobs.knobs.size());
  std::string text = fmt::format("\n{} runs in {:.0f} s.\n", result.runs, result.seconds);
  if (report.grid) {
    if (!result.complete) text += "The time was over before all rounds were done.\n";
    return text + "Best mean of the grid: " + NameOf(report, result.best) + "\n";
  }
  if (!result.complete) {
    text += fmt::format("The time (--max-seconds {:.0f}) was over before everything was tried.\n",
                        report.max_seconds);
  }
  if (result.best == start) {
    text += result.complete ? "No setting is better than the noise.\n"
                            : "Up to there no setting was better than the noise.\n";
  } else if (result.last.verdict == Verdict::kBetter) {
    text += fmt::format("What was found gives {} on what was given.\n", GainOf(result.last.contenders[1]));
  } else {
    text += "Each step was better than the one before; there was no time to compare the last with the start.\n";
  }
  if (report.knobs.ChangesTokens(result.best)) {
    text += "It changes the tokens that come (other numbers or another order of sums); --exact leaves such settings "
            "out.\n";
  }
  return text;
}

constexpr std::string_view kBar = "#9dbfd9", kBest = "#d9822b", kRun = "#1b6ca8";

}  // namespace

std::string ShellText(const std::vector<std::string>& words) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+";
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ' ';
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
      text += word;
      continue;
    }
    text += '\'';
    for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    text += '\'';
  }
  return text;
}

std::vector<std::string> TunedCommand(const TuningReport& report) {
  std::vector<std::string> command = report.command;
  const std::vector<std::string> words = report.knobs.WordsOf(report.result.best);
  command.insert(command.end(), words.begin(), words.end());
  return command;
}

std::string RenderTuning(const TuningReport& report) {
  std::string text = fmt::format("Load {}, goal {}\n", report.load, report.goal);
  for (const Race& race : report.result.races) {
    text += RenderRace(report, race, report.grid ? "every combination" : KnobsOf(report, race));
  }
  if (!report.result.last.contenders.empty()) {
    text += RenderRace(report, report.result.last, "the start and what was found");
  }
  return text + Conclusion(report) + "\nUse:\n  " + ShellText(TunedCommand(report)) + "\n";
}

std::string RenderTuningPlot(const TuningReport& report) {
  constexpr size_t kMaxRows = 200;
  constexpr double kRow = 26, kWidth = 1100, kTop = 90;
  struct Row {
    const Race* race;
    size_t index;
  };
  std::vector<Row> rows;
  std::vector<const Race*> races;
  for (const Race& race : report.result.races) races.push_back(&race);
  if (!report.result.last.contenders.empty()) races.push_back(&report.result.last);
  double most = 0;
  for (const Race* race : races) {
    for (size_t i = 0; i < race->contenders.size() && rows.size() < kMaxRows; ++i) {
      if (race->contenders[i].scores.empty()) continue;
      rows.push_back({race, i});
      for (const double score : race->contenders[i].scores) {
        most = std::max(most, report.figure.Figure(score));
      }
    }
  }
  const auto count = static_cast<double>(rows.size());
  const double height = std::max(1.0, count) * kRow;
  SvgChart chart({70, kTop, kWidth - 110, height},
                 fmt::format("{}{}", report.figure.unit(),
                             report.figure.less_is_better() ? " (less is better)" : ""),
                 {.label = report.figure.unit(), .max = most * 1.05},
                 {.label = "", .max = std::max(1.0, count), .ticks = false});
  for (size_t i = 0; i < rows.size(); ++i) {
    const Contender& contender = rows[i].race->contenders[rows[i].index];
    const double y = count - static_cast<double>(i) - 0.5;
    const bool best = contender.setting == report.result.best;
    chart.Bar(0, report.figure.Figure(Mean(contender.scores)), y, kRow - 6, best ? kBest : kBar);
    for (const double score : contender.scores) chart.Dot({report.figure.Figure(score), y}, kRun);
    chart.Text({0, y}, fmt::format("{}: {}{}", KnobsOf(report, *rows[i].race),
                                   NameWithin(report, *rows[i].race, contender.setting, true),
                                   Common(report, *rows[i].race)));
  }
  chart.Legend("mean of a setting", kBar);
  chart.Legend("of the recommended one", kBest);
  chart.Legend("a run", kRun);
  return SvgDocument(kWidth, kTop + height + 80,
                     fmt::format("tiercel tune: load {}, goal {}", report.load, report.goal),
                     fmt::format("{} runs in {:.0f} s", report.result.runs, report.result.seconds),
                     chart.elements());
}

Json TuningJson(const TuningReport& report) {
  const auto words = [](const std::vector<std::string>& list) {
    Json::Array array;
    for (const std::string& word : list) array.push_back(Json(word));
    return Json(std::move(array));
  };
  const auto numbers = [](const std::vector<double>& values) {
    return Json(Json::Array(values.begin(), values.end()));
  };
  const auto race_json = [&](const Race& race) {
    Json::Array settings;
    for (size_t i = 0; i < race.contenders.size(); ++i) {
      const Contender& contender = race.contenders[i];
      std::vector<double> figures;
      for (const double score : contender.scores) figures.push_back(report.figure.Figure(score));
      settings.push_back(Json::Of({{"words", words(report.knobs.WordsOf(contender.setting))},
                                   {"figures", numbers(figures)},
                                   {"screening_log_gains", numbers(contender.screening)},
                                   {"duel_log_gains", numbers(contender.duel)},
                                   {"fate", Json(FateOf(race, i, report.grid))}}));
    }
    return Json::Of({{"knobs", Json(KnobsOf(report, race))}, {"settings", Json(std::move(settings))}});
  };
  Json::Array races;
  for (const Race& race : report.result.races) races.push_back(race_json(race));
  if (!report.result.last.contenders.empty()) races.push_back(race_json(report.result.last));
  return Json::Of({{"load", Json(report.load)},
                   {"goal", Json(report.goal)},
                   {"unit", Json(report.figure.unit())},
                   {"complete", Json(report.result.complete)},
                   {"runs", Json(report.result.runs)},
                   {"seconds", Json(report.result.seconds)},
                   {"best", words(report.knobs.WordsOf(report.result.best))},
                   {"command", words(TunedCommand(report))},
                   {"races", Json(std::move(races))}});
}

}  // namespace tiercel::bench
