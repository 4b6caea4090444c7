#!/usr/bin/env python3
"""Perplexity of a real model on a text: ours against Hugging Face's BF16 (and FP32).

    python tests/parity/perplexity.py --model DIR [--gguf FILE] --text FILE \
        --teacher-force build/release/tests/parity/teacher_force [--tokens 20000] [--window 1024]

The text is cut into windows that are computed on their own; the first token of each is not scored.
Passes if our perplexity lies within 0.2 % of Hugging Face's BF16. Results: docs/parity.md.
"""

import sys

import numpy as np
import torch

import hf_reference


def hf_nll(model, tokens, window):
    losses = []
    for begin in range(0, len(tokens), window):
        piece = tokens[begin:begin + window]
        logits = hf_reference.hf_logits(model, piece)
        labels = torch.from_numpy(piece[1:].astype(np.int64))
        losses.append(torch.nn.functional.cross_entropy(logits[:-1], labels, reduction="none"))
    return torch.cat(losses).double().mean().item()


def main():
    parser = hf_reference.arguments(__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=20000)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--fp32", action="store_true", help="also run the FP32 model")
    args = parser.parse_args()

    tokens = hf_reference.tokenize(args, args.tokens)
    nll = hf_reference.teacher_force(args, tokens, "--nll", "--window", str(args.window))
    ours = np.exp(np.nanmean(nll.astype(np.float64)))
    print(f"Tiercel            {ours:.4f}", flush=True)
    hf = np.exp(hf_nll(hf_reference.load(args, torch.bfloat16), tokens, args.window))
    print(f"Hugging Face BF16  {hf:.4f}", flush=True)
    if args.fp32:
        fp32 = np.exp(hf_nll(hf_reference.load(args, torch.float32), tokens, args.window))
        print(f"Hugging Face FP32  {fp32:.4f}")
    difference = ours / hf - 1
    ok = abs(difference) <= 0.002
    print(f"difference to BF16 {100 * difference:+.3f} %: {'pass' if ok else 'FAIL'}")
    sys.exit(not ok)


if __name__ == "__main__":
    main()
