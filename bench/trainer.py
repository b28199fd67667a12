"""Makes training steps in PyTorch, on command: the counterpart of bench/train.

Started by train.py. Prints one JSON line when it is ready; then, for each "go" on standard input, it makes one step and prints
{"seconds": s, "losses": [...]}.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import first_stage
import forward
import networks
import safetensors_file

VARIANTS = ("eager", "eager-channels-last", "compile")
SIZES = networks.Sizes(model_channels=64, channel_mult=(1, 2, 3), attention_factors=(4, 2), context_dim=128, classes=11,
                       ae_channels=32, codes=256)
SMALL = networks.Sizes(model_channels=32, channel_mult=(1, 2, 3), attention_factors=(4, 2), context_dim=128, classes=11,
                       ae_channels=32, codes=256)


MODELS = ("unet", "first-stage", "first-stage-perceptual")


class UNetStep:
    """Training steps of the U-Net: forward, backward, AdamW, running average of the weights."""

    def __init__(self, a):
        sizes = SMALL if a.small else SIZES
        net = forward.load("unet", sizes, a.weights).train().requires_grad_(True)
        x, t, context = forward.inputs("unet", a.inputs, a.batch, a.size, sizes)
        target = forward.read(a.inputs, "target", *x.shape)
        if a.variant != "eager":
            net = net.to(memory_format=torch.channels_last)
            x, target = (v.contiguous(memory_format=torch.channels_last) for v in (x, target))
        self.weights = list(net.parameters())
        self.average = [w.detach().clone() for w in self.weights]
        self.optimizer = torch.optim.AdamW(self.weights, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True)
        if a.variant == "compile":
            net = torch.compile(net, dynamic=False)
        self.loss = lambda: F.mse_loss(net(x, t, context), target)

    def __call__(self) -> list:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.weights, 1 - 0.9999)
        return [loss.item()]


def first_stage_step(a) -> first_stage.Step:
    """Training steps of the first stage; without the perceptual distance its weights are not loaded."""
    sizes = first_stage.SMALL if a.small else first_stage.FULL
    model = first_stage.FirstStage(sizes)
    perceptual = a.model == "first-stage-perceptual"
    if not perceptual:
        model.perceptual = torch.nn.Identity()
    safetensors_file.read_into(a.weights, {name: p.detach().numpy() for name, p in model.state().items() if p.dtype == torch.float32})
    image = forward.read(a.inputs, "image", a.batch, 3, a.size, a.size)
    noise = [forward.read(a.inputs, f"noise{i}", a.batch, sizes.latent_channels, a.size // 4, a.size // 4) for i in range(2)]
    if a.variant != "eager":
        model = model.to(memory_format=torch.channels_last)
        image, *noise = (v.contiguous(memory_format=torch.channels_last) for v in (image, *noise))
    return first_stage.Step(model, perceptual, image, noise, a.variant == "compile")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", choices=MODELS, required=True)
    p.add_argument("--variant", choices=VARIANTS, required=True)
    p.add_argument("--small", action="store_true")
    p.add_argument("--weights", type=Path, required=True)
    p.add_argument("--inputs", type=Path, required=True)
    p.add_argument("--threads", type=int, required=True)
    p.add_argument("--batch", type=int, required=True)
    p.add_argument("--size", type=int, required=True)
    a = p.parse_args()

    start = time.perf_counter()
    torch.set_num_threads(a.threads)
    step = UNetStep(a) if a.model == "unet" else first_stage_step(a)
    replies = sys.stdout
    sys.stdout = sys.stderr  # compilers print; the pipe is for replies
    reply = lambda **kw: print(json.dumps(kw), file=replies, flush=True)
    reply(name=f"torch {torch.__version__}, {torch.get_num_threads()} threads", load_seconds=time.perf_counter() - start)

    for line in sys.stdin:
        if line.strip() != "go":
            sys.exit(f"unknown command {line!r}")
        begin = time.perf_counter()
        losses = step()
        reply(seconds=time.perf_counter() - begin, losses=losses)


if __name__ == "__main__":
    main()
