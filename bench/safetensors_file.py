"""Reads and writes float32 tensors in the safetensors format."""

import json
import struct
from pathlib import Path

import numpy as np


def write(path: Path, tensors: dict):
    """Writes contiguous float32 arrays by name. The file appears under its name when it is complete."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, x in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [at, at + x.nbytes]}
        at += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = path.with_suffix(".part")
    with open(part, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for x in tensors.values():
            f.write(np.ascontiguousarray(x, np.float32).data)
    part.rename(path)


def read_into(path: Path, tensors: dict):
    """Fills contiguous float32 arrays from the file's tensors of the same names and shapes."""
    with open(path, "rb", buffering=0) as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        for name, x in tensors.items():
            entry = header.get(name)
            if entry is None or entry["dtype"] != "F32" or tuple(entry["shape"]) != x.shape:
                raise ValueError(f"{path}: {name} is {entry}, want float32 {x.shape}")
            if x.nbytes == 0:
                continue
            f.seek(8 + size + entry["data_offsets"][0])
            rest = memoryview(x).cast("B")
            while len(rest):
                n = f.readinto(rest)
                if not n:
                    raise EOFError(f"{path}: {name} is cut short")
                rest = rest[n:]
