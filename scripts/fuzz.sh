#!/bin/bash
# fuzz.sh FOLDER SECONDS: runs every fuzzer in FOLDER for that long, two at a time, from the seeds in
# tests/fuzz/seeds/NAME. Fails, with the log, when one finds something.
set -euo pipefail

folder=$1
seconds=$2
seeds=$(dirname "$0")/../tests/fuzz/seeds

run() {
  local fuzzer=$1 name corpus
  name=$(basename "$fuzzer")
  corpus=$folder/corpus/$name
  mkdir -p "$corpus"
  local inputs=("$corpus")
  if [ -d "$seeds/$name" ]; then inputs+=("$seeds/$name"); fi
  if ! "$fuzzer" -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=20 -print_final_stats=1 \
      -artifact_prefix="$folder/$name-" "${inputs[@]}" >"$folder/$name.log" 2>&1; then
    tail -60 "$folder/$name.log"
    echo "$name: FAILED"
    return 1
  fi
  echo "$name: $(grep -o 'stat::number_of_executed_units: *[0-9]*' "$folder/$name.log" | grep -o '[0-9]*$') inputs, nothing found"
}

jobs=()
failed=0
for fuzzer in "$folder"/*_fuzz; do
  run "$fuzzer" &
  jobs+=($!)
  if [ ${#jobs[@]} -ge 2 ]; then
    wait "${jobs[0]}" || failed=1
    jobs=("${jobs[@]:1}")
  fi
done
for job in "${jobs[@]}"; do wait "$job" || failed=1; done
exit $failed
