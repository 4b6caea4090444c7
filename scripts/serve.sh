#!/bin/bash
# serve.sh MODEL PORT [flags…]: serves a model with the release build and, once it answers, prints
# the line to try. An empty MODEL is the demo model, greedy: its file names no sampling
# settings, and at the default temperature of 1.0 so small a model wanders.
set -euo pipefail
cd "$(dirname "$0")/.."

model=$1
port=$2
shift 2
demo=()
if [ -z "$model" ]; then
  model=$(scripts/fetch_demo_model.sh)
  demo=(--served-model-name smollm2
        --override-generation-config '{"temperature": 0, "repetition_penalty": 1.1}')
fi

server=$$
(
  while kill -0 "$server" 2>/dev/null; do
    if { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null; then
      printf 'GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
      if read -r -t 5 status <&3 && [[ $status == *" 200 "* ]]; then
        cat >&2 <<TEXT

Ready. Try it from another terminal:

  curl http://localhost:$port/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"messages": [{"role": "user", "content": "What is the capital of France?"}]}'

or talk to it: build/release/tiercel chat --url http://localhost:$port/v1
TEXT
        exit
      fi
    fi
    sleep 0.5
  done
) &
exec build/release/tiercel serve "$model" --port "$port" "${demo[@]}" "$@"
