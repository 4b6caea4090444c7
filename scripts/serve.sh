#!/bin/bash
# serve.sh MODEL PORT [flags…]: serves a model with the release build and, once it answers, prints
# the line to try. An empty MODEL is the demo model.
set -euo pipefail
cd "$(dirname "$0")/.."

model=$1
port=$2
shift 2
name=()
if [ -z "$model" ]; then
  model=$(scripts/fetch_demo_model.sh)
  name=(--served-model-name smollm2)
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
    sleep 0.2
  done
) &
exec build/release/tiercel serve "$model" --port "$port" "${name[@]}" "$@"
