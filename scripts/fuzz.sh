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
  # A template may double a string in a loop: rendering bounds its steps and its output, not the
  # values in between. So running out of memory is no finding there; anything else is.
  local flags=(-rss_limit_mb=2048)
  if [ "$name" = template_fuzz ]; then flags+=(-malloc_limit_mb=1024 -fork=1 -ignore_ooms=1); fi
  if ! "$fuzzer" -max_total_time="$seconds" -timeout=20 -print_final_stats=1 "${flags[@]}" \
      -artifact_prefix="$folder/$name-" "${inputs[@]}" >"$folder/$name.log" 2>&1; then
    tail -60 "$folder/$name.log"
    echo "$name: FAILED"
    return 1
  fi
  # The last "#COUNT" that it printed.
  echo "$name: $(grep -ao '^#[0-9][0-9]*' "$folder/$name.log" | tail -1 | tr -d '#') inputs, nothing found"
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
