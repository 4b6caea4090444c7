#include "bench/tuner.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "bench/confidence.h"

namespace tiercel::bench {
namespace {

// When a duel is looked at. Looking more often would find a difference in the noise sooner or later.
constexpr size_t kLooks[] = {3, 5, 8, 12};

bool CannotRun(const Status& status) {
  return status.code() == StatusCode::kInvalidArgument ||
         status.code() == StatusCode::kUnimplemented ||
         status.code() == StatusCode::kResourceExhausted;
}

// `start` with every combination of the values of `knobs`; itself first.
std::vector<Setting> Combinations(const Setting& start, const std::vector<int>& knobs,
                                  const TuningSpace& space) {
  std::vector<Setting> settings{start};
  for (const int knob : knobs) {
    const auto at = static_cast<size_t>(knob);
    const size_t before = settings.size();
    for (int value = 0; value < space.num_values[at]; ++value) {
      if (value == start[at]) continue;
      for (size_t i = 0; i < before; ++i) {
        Setting setting = settings[i];
        setting[at] = value;
        settings.push_back(std::move(setting));
      }
    }
  }
  return settings;
}

// Of a race that goes all the way.
int64_t ExpectedRuns(size_t challengers) {
  if (challengers == 0) return 0;
  int64_t runs = 2 * static_cast<int64_t>(kLooks[1]);
  for (; challengers > 1; challengers = (challengers + 1) / 2) {
    runs += static_cast<int64_t>(challengers) + 1;
  }
  return runs;
}

class Search {
 public:
  Search(const TuningSpace& space, const MeasureSetting& measure, const TunerOptions& options)
      : space_(space), measure_(measure), options_(options) {
    start_.assign(space.num_values.size(), 0);
    result_.best = start_;
  }

  Expected<TuningResult> Run() {
    // Of each group the holder against which it has nothing better.
    std::vector<std::optional<Setting>> settled(space_.groups.size());
    bool time_up = false;
    for (size_t group = 0; !time_up; group = (group + 1) % std::max<size_t>(settled.size(), 1)) {
      if (std::all_of(settled.begin(), settled.end(),
                      [&](const auto& holder) { return holder == result_.best; })) {
        result_.complete = true;
        break;
      }
      if (settled[group] == result_.best) continue;
      pending_ = PendingRuns(settled, group);
      ASSIGN_OR_RETURN(const Race race, RunRace(Combinations(result_.best, space_.groups[group], space_)));
      time_up = race.verdict == Verdict::kTimeUp;
      if (race.verdict == Verdict::kBetter) result_.best = race.contenders[race.finalist].setting;
      // All combinations were there: a new holder has beaten them.
      settled[group] = result_.best;
      const bool begun = !race.contenders[0].scores.empty();
      if (begun) result_.races.push_back(race);
    }
    searching_ = false;
    RETURN_IF_ERROR(CompareWithStart());
    return std::move(result_);
  }

  Expected<TuningResult> RunAll(int rounds) {
    std::vector<int> knobs(space_.num_values.size());
    std::iota(knobs.begin(), knobs.end(), 0);
    Race race = MakeRace(Combinations(result_.best, knobs, space_));
    pending_ = rounds * static_cast<int64_t>(race.contenders.size());
    std::vector<size_t> alive = Challengers(race);
    result_.complete = true;
    for (int round = 0; round < rounds && result_.complete; ++round) {
      // The first round is had whole, so that each setting has a figure.
      if (round > 0 && !TimeFor(alive.size() + 1)) {
        result_.complete = false;
        break;
      }
      RETURN_IF_ERROR(Round(&race, &alive, &Contender::screening));
    }
    for (size_t i = 1; i < race.contenders.size(); ++i) {
      if (Mean(race.contenders[i].scores) > Mean(race.contenders[race.finalist].scores)) race.finalist = i;
    }
    result_.best = race.contenders[race.finalist].setting;
    result_.races.push_back(std::move(race));
    return std::move(result_);
  }

 private:
  static Race MakeRace(std::vector<Setting> settings) {
    Race race;
    for (Setting& setting : settings) race.contenders.push_back({std::move(setting), {}, {}, {}, {}});
    return race;
  }

  static std::vector<size_t> Challengers(const Race& race) {
    std::vector<size_t> alive(race.contenders.size() - 1);
    std::iota(alive.begin(), alive.end(), size_t{1});
    return alive;
  }

  // What is left of this pass, if nothing is found.
  int64_t PendingRuns(const std::vector<std::optional<Setting>>& settled, size_t first) const {
    int64_t runs = 0;
    for (size_t group = first; group < settled.size(); ++group) {
      if (settled[group] == result_.best) continue;
      size_t settings = 1;
      for (const int knob : space_.groups[group]) {
        settings *= static_cast<size_t>(space_.num_values[static_cast<size_t>(knob)]);
      }
      runs += ExpectedRuns(settings - 1);
    }
    return runs;
  }

  // Once something is found, with room for its comparison with the start.
  bool TimeFor(size_t runs) const {
    if (result_.runs == 0) return true;
    if (searching_ && result_.best != start_) runs += 2 * kLooks[0];
    const double each = result_.seconds / static_cast<double>(result_.runs);
    return result_.seconds + static_cast<double>(runs) * each <= options_.max_seconds;
  }

  // A score, or nullopt for a setting that cannot run, which the contender then says.
  Expected<std::optional<double>> RunOne(Contender* contender) {
    const auto run = measure_(contender->setting);
    if (!run) {
      if (!CannotRun(run.error())) return Unexpected(run.error());
      contender->refusal = run.error().message();
      return std::optional<double>();
    }
    ++result_.runs;
    result_.seconds += run->seconds;
    --pending_;
    contender->scores.push_back(run->score);
    if (options_.on_run) {
      const double each = result_.seconds / static_cast<double>(result_.runs);
      const double room = std::max(0.0, options_.max_seconds - result_.seconds) / std::max(each, 1e-9);
      const int64_t more = std::min<int64_t>(pending_, std::llround(std::min(room, 1e9)));
      options_.on_run(result_.runs, result_.runs + std::max<int64_t>(0, more));
    }
    return std::optional<double>(run->score);
  }

  // The holder and all of `alive` once; those that cannot run leave it.
  Status Round(Race* race, std::vector<size_t>* alive, std::vector<double> Contender::*gains) {
    std::vector<size_t> order{0};
    order.insert(order.end(), alive->begin(), alive->end());
    if (round_++ % 2 == 1) std::reverse(order.begin(), order.end());
    std::vector<double> scores(race->contenders.size());
    for (const size_t i : order) {
      Contender& contender = race->contenders[i];
      ASSIGN_OR_RETURN(const std::optional<double> score, RunOne(&contender));
      if (!score && i == 0) return Status(StatusCode::kFailedPrecondition, contender.refusal);
      if (score) scores[i] = *score;
    }
    std::erase_if(*alive, [&](size_t i) { return !race->contenders[i].refusal.empty(); });
    for (const size_t i : *alive) {
      (race->contenders[i].*gains).push_back(LogRatio(scores[i], scores[0]));
    }
    return OkStatus();
  }

  Expected<Race> RunRace(std::vector<Setting> settings) {
    Race race = MakeRace(std::move(settings));
    std::vector<size_t> alive = Challengers(race);
    while (alive.size() > 1) {
      if (!TimeFor(alive.size() + 1)) {
        race.verdict = Verdict::kTimeUp;
        return race;
      }
      RETURN_IF_ERROR(Round(&race, &alive, &Contender::screening));
      std::stable_sort(alive.begin(), alive.end(), [&](size_t a, size_t b) {
        return Mean(race.contenders[a].screening) > Mean(race.contenders[b].screening);
      });
      alive.resize((alive.size() + 1) / 2);
    }
    if (!alive.empty()) RETURN_IF_ERROR(Duel(&race, alive[0], Confidence::k95));
    return race;
  }

  Status Duel(Race* race, size_t challenger, Confidence confidence) {
    race->finalist = challenger;
    const Contender& finalist = race->contenders[challenger];
    std::vector<size_t> alive{challenger};
    for (const size_t look : kLooks) {
      while (finalist.duel.size() < look) {
        if (!TimeFor(2)) {
          race->verdict = Verdict::kTimeUp;
          return OkStatus();
        }
        RETURN_IF_ERROR(Round(race, &alive, &Contender::duel));
        if (alive.empty()) {  // it cannot run after all
          race->finalist = 0;
          return OkStatus();
        }
      }
      const Interval gain = ConfidenceInterval(finalist.duel, confidence);
      if (gain.low() > 0) {
        race->verdict = Verdict::kBetter;
        return OkStatus();
      }
      // What has gained nothing so far is not worth the time it would take to know.
      if (gain.mean <= 0 || gain.high() < std::log1p(options_.min_gain)) return OkStatus();
    }
    return OkStatus();
  }

  Status CompareWithStart() {
    if (result_.best == start_) return OkStatus();
    result_.last = MakeRace({start_, result_.best});
    RETURN_IF_ERROR(Duel(&result_.last, 1, Confidence::k99));
    if (result_.last.verdict == Verdict::kNotBetter) result_.best = start_;
    return OkStatus();
  }

  const TuningSpace& space_;
  const MeasureSetting& measure_;
  const TunerOptions& options_;
  Setting start_;
  TuningResult result_;
  int64_t pending_ = 0;  // runs that are still expected
  uint64_t round_ = 0;
  bool searching_ = true;  // not yet at the comparison with the start
};

}  // namespace

Expected<TuningResult> Tune(const TuningSpace& space, const MeasureSetting& measure,
                            const TunerOptions& options) {
  return Search(space, measure, options).Run();
}

Expected<TuningResult> MeasureAll(const TuningSpace& space, const MeasureSetting& measure, int rounds,
                                  const TunerOptions& options) {
  return Search(space, measure, options).RunAll(rounds);
}

}  // namespace tiercel::bench
