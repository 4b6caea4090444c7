"""What the by-hand parity scripts share: running Hugging Face models and our teacher_force."""

import argparse
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
import transformers


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", required=True, help="a folder that Hugging Face can load")
    parser.add_argument("--gguf", help="name of a .gguf file in the folder to load instead")
    parser.add_argument("--text", required=True, help="a plain text file")
    parser.add_argument("--teacher-force", required=True, help="the teacher_force binary")
    parser.add_argument("--threads", type=int, default=0)
    return parser


def gguf_option(args):
    return {"gguf_file": args.gguf} if args.gguf else {}


def tokenize(args, count):
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model, **gguf_option(args))
    # Enough characters for any tokenizer; no special tokens, as in the middle of a text.
    text = pathlib.Path(args.text).read_text()[: 12 * count]
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"][:count]
    if len(tokens) < count:
        raise SystemExit(f"{args.text}: found {len(tokens)} tokens, expected {count}")
    return np.array(tokens, dtype=np.int32)


def load(args, dtype):
    if args.threads:
        torch.set_num_threads(args.threads)
    return transformers.AutoModelForCausalLM.from_pretrained(
        args.model, torch_dtype=dtype, **gguf_option(args)).eval()


@torch.no_grad()
def hf_logits(model, tokens):
    """float32 [tokens, vocab]"""
    ids = torch.from_numpy(tokens.astype(np.int64))[None]
    return model(ids, use_cache=False).logits[0].float()


def teacher_force(args, tokens, *options):
    """Our float32 output for the tokens, flat."""
    path = str(pathlib.Path(args.model) / args.gguf) if args.gguf else args.model
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        tokens.astype("<i4").tofile(folder / "tokens")
        subprocess.run([args.teacher_force, path, folder / "tokens", folder / "out", *options],
                       check=True)
        return np.fromfile(folder / "out", dtype="<f4")
