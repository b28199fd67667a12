"""Runs one network in PyTorch, on command: the counterpart of bench/forward.

Started by compare.py. Prints one JSON line when it is ready; then, for each line on standard input:
"go" runs one forward and prints {"seconds": s}; "save PATH" writes the last output as raw float32, NCHW.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

import networks
import safetensors_file

VARIANTS = ("eager", "eager-channels-last", "compile", "compile-max-autotune")


def load(net: str, sizes: networks.Sizes, path: Path) -> torch.nn.Module:
    """The network with its weights, each of which is in memory once."""
    with torch.device("meta"):
        module = networks.UNet(sizes) if net == "unet" else networks.FirstStage(sizes, encoder=False)
    prefix = "model.diffusion_model." if net == "unet" else "first_stage_model."
    module.to_empty(device="cpu").eval().requires_grad_(False)
    safetensors_file.read_into(path, {prefix + name: p.numpy() for name, p in module.named_parameters()})
    return module


def read(folder: Path, name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.fromfile(folder / f"{name}.f32", np.float32).reshape(shape))


def inputs(net: str, folder: Path, batch: int, size: int, sizes: networks.Sizes):
    c = sizes.latent_channels
    if net == "decoder":
        return (read(folder, "z", batch, c, size, size),)
    return read(folder, "x", batch, c, size, size), read(folder, "t", batch), read(folder, "context", batch, -1, sizes.context_dim)


def tuned(run: torch.nn.Module, args: tuple, variant: str) -> tuple:
    """A network and its inputs as a variant has them, and the context that it runs in."""
    if variant != "eager":
        run = run.to(memory_format=torch.channels_last)
        args = tuple(x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in args)
    if not variant.startswith("compile"):
        return run, args, torch.inference_mode
    import torch._inductor.config as inductor

    inductor.freezing = True
    inductor.freezing_discard_parameters = True  # the packed copies replace them
    if variant == "compile-max-autotune":
        inductor.max_autotune = True
        inductor.cpp_wrapper = True
    return torch.compile(run, dynamic=False), args, torch.no_grad


def serve(run, args: tuple, context, start: float):
    """Answers standard input; start is when loading began."""
    replies = sys.stdout
    sys.stdout = sys.stderr  # compilers print; the pipe is for replies
    reply = lambda **kw: print(json.dumps(kw), file=replies, flush=True)
    reply(name=f"torch {torch.__version__}, {torch.get_num_threads()} threads", load_seconds=time.perf_counter() - start)

    out = None
    for line in sys.stdin:
        command, _, path = line.strip().partition(" ")
        if command == "go":
            begin = time.perf_counter()
            with context():
                out = run(*args)
            reply(seconds=time.perf_counter() - begin)
        elif command == "save":
            out.contiguous().numpy().tofile(path)
            reply(saved=path)
        else:
            sys.exit(f"unknown command {line!r}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--variant", choices=VARIANTS, required=True)
    p.add_argument("--net", choices=("unet", "decoder"), required=True)
    p.add_argument("--small", action="store_true")
    p.add_argument("--weights", type=Path, required=True)
    p.add_argument("--inputs", type=Path, required=True)
    p.add_argument("--threads", type=int, required=True)
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--size", type=int, default=64)
    a = p.parse_args()

    start = time.perf_counter()
    torch.set_num_threads(a.threads)
    sizes = networks.SMALL if a.small else networks.FULL
    run = load(a.net, sizes, a.weights)
    serve(*tuned(run, inputs(a.net, a.inputs, a.batch, a.size, sizes), a.variant), start)


if __name__ == "__main__":
    main()
