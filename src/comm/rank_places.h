// Where the ranks of a model are. Its layers are divided into stages, one after the other; a stage's ranks are as many in
// each of its processes, one after the other.
#pragma once

#include "base/check.h"
#include "comm/collectives.h"
#include "comm/transport.h"

namespace tiercel::comm {

struct RankPlaces {
  Process process = {};        // of those of the stage
  int first_process = 0;  // of the stage, in the job
  int stage = 0;
  int stages = 1;
  int local = 1;  // ranks of each process

  // `process` of a job with so many stages.
  static RankPlaces Of(Process process, int stages, int local) {
    CHECK_EQ(process.count % stages, 0);
    const int each = process.count / stages;
    const int stage = process.index / each;
    return {{process.index % each, each}, stage * each, stage, stages, local};
  }

  bool is_first_stage() const { return stage == 0; }
  bool is_last_stage() const { return stage == stages - 1; }

  int ranks() const { return process.count * local; }  // of a stage
  int first_here() const { return process.index * local; }
  bool IsHere(int rank) const { return rank / local == process.index; }
  // The rank that is number `i` of this process.
  Rank RankHere(int i) const { return {first_here() + i, ranks()}; }
  // Whether other processes get the sum of this one's parts instead of each: the bits are the same (kernels/ops.h,
  // RankParts).
  bool sums_first() const { return process.count > 1 && local > 1 && (local & (local - 1)) == 0; }
  // Of `items` rows those that the ranks of process `index` of the stage own.
  Range OwnedByProcess(int index, int64_t items) const {
    return {OwnedBy({index * local, ranks()}, items).begin, OwnedBy({(index + 1) * local - 1, ranks()}, items).end};
  }
  // As the job counts them: a process of this stage, of the stage before or behind, of the last one.
  int InJob(int index) const { return first_process + index; }
  int Before() const { return first_process - process.count + process.index; }
  int Behind() const { return first_process + process.count + process.index; }
  int InLastStage(int index) const { return (stages - 1) * process.count + index; }
};

}  // namespace tiercel::comm
