"""Writes the weights of the tests' own models: a safetensors file of BF16."""

import json
import struct


def bf16(values):
    return b"".join(struct.pack("<f", v)[2:] for v in values)


def write_bf16_file(path, tensors):
    """tensors: {name: (shape, bytes)}, in the file's order; bf16 makes the bytes."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0  # Hugging Face asks for the format
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, data in tensors.values():
            file.write(data)
