"""Writes vgg16.json: features of torch-fidelity's VGG16 with computed weights. Needs torch, torchvision and torch-fidelity 0.4.

    python vgg16.py /tmp/vgg16.pth > vgg16.json

Weights follow package internal/weights/formula by the names of torchvision's state dict; the file of weights stays at the path
given. Pixel k of a picture, counted over height, width and channels, is (k * k + 7 * k) % 256.
"""

import json
import sys

import numpy as np
import torch
import torch_fidelity
import torchvision
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

SIZES = [(64, 96), (224, 224), (301, 257)]
EVERY = 37  # features that are stored


def splitmix64(x):
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def fnv1a(name):
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return np.uint64(h)


def values(name, shape):
    n = int(np.prod(shape))
    out = np.empty(n, np.float32)
    scale = np.sqrt(6.0 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
    for at in range(0, n, 1 << 22):
        k = np.arange(at, min(n, at + (1 << 22)), dtype=np.uint64)
        u = (splitmix64(fnv1a(name) + k) >> np.uint64(40)).astype(np.float64) / (1 << 24)
        out[at : at + len(k)] = (2 * u - 1) * scale
    return torch.from_numpy(out.reshape(shape))


def main():
    np.seterr(over="ignore")
    net = torchvision.models.vgg16(weights=None)
    torch.save({k: values(k, tuple(v.shape)) for k, v in net.state_dict().items()}, sys.argv[1])
    extractor = FeatureExtractorVGG16("vgg16", ["fc2_relu"], feature_extractor_weights_path=sys.argv[1], feature_extractor_internal_dtype="float64")
    extractor.eval()
    pictures = []
    for h, w in SIZES:
        k = np.arange(3 * h * w, dtype=np.int64)
        pix = torch.from_numpy(((k * k + 7 * k) % 256).astype(np.uint8).reshape(h, w, 3)).permute(2, 0, 1)[None].contiguous()
        with torch.no_grad():
            y = extractor(pix)[0][0].double().numpy()
        pictures.append({"height": h, "width": w, "norm": float(np.linalg.norm(y)), "features": [float(v) for v in y[::EVERY]]})
    versions = {"torch-fidelity": torch_fidelity.__version__, "torchvision": torchvision.__version__, "torch": torch.__version__}
    json.dump({"versions": versions, "every": EVERY, "pictures": pictures}, sys.stdout, indent=1)
    print()


main()
