"""Writes blocks.gguf: random blocks of every supported quantized type, and what the `gguf` package
(pip install gguf) dequantizes them to.

    python tests/data/gguf/make_blocks.py

For each type T there are a tensor "T" [2, 512] of that type and "T.expected" in F32.
"""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16"]
ROWS, COLUMNS = 2, 512
# Where each type's blocks hold half-precision scales: random bits would be infinities and NaNs.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def random_blocks(name, rng):
    if name == "F16":
        return rng.normal(size=(ROWS, COLUMNS)).astype(np.float16).view(np.uint8)
    if name == "BF16":
        return (rng.normal(size=(ROWS, COLUMNS)).astype(np.float32).view(np.uint32) >> 16).astype(
            np.uint16).view(np.uint8)
    elements, size = gguf.GGML_QUANT_SIZES[Type[name]]
    blocks = rng.integers(0, 256, size=(ROWS * COLUMNS // elements, size), dtype=np.uint8)
    for offset in HALVES[name]:
        scales = rng.normal(scale=0.1, size=len(blocks)).astype(np.float16)
        blocks[:, offset:offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(ROWS, -1)


def main():
    rng = np.random.default_rng(7)
    path = pathlib.Path(__file__).with_name("blocks.gguf")
    writer = gguf.GGUFWriter(path, "test")
    for name in TYPES:
        data = random_blocks(name, rng)
        expected = gguf.quants.dequantize(data, Type[name]).reshape(ROWS, COLUMNS)
        writer.add_tensor(name, data, raw_shape=data.shape, raw_dtype=Type[name])
        writer.add_tensor(name + ".expected", expected.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()
