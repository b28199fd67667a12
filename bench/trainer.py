"""Makes training steps of the U-Net in PyTorch, on command: the counterpart of bench/train.

Started by train.py. Prints one JSON line when it is ready; then, for each "go" on standard input, it makes one step (forward,
backward, AdamW, running average of the weights) and prints {"seconds": s, "loss": l}.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import forward
import networks

VARIANTS = ("eager", "eager-channels-last", "compile")
SIZES = networks.Sizes(model_channels=64, channel_mult=(1, 2, 3), attention_factors=(4, 2), context_dim=128, classes=11,
                       ae_channels=32, codes=256)
SMALL = networks.Sizes(model_channels=32, channel_mult=(1, 2, 3), attention_factors=(4, 2), context_dim=128, classes=11,
                       ae_channels=32, codes=256)


def main():
    p = argparse.ArgumentParser()
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
    sizes = SMALL if a.small else SIZES
    net = forward.load("unet", sizes, a.weights).train().requires_grad_(True)
    x, t, context = forward.inputs("unet", a.inputs, a.batch, a.size, sizes)
    target = forward.read(a.inputs, "target", *x.shape)
    if a.variant != "eager":
        net = net.to(memory_format=torch.channels_last)
        x, target = (v.contiguous(memory_format=torch.channels_last) for v in (x, target))
    weights = list(net.parameters())
    average = [w.detach().clone() for w in weights]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True)
    loss_of = lambda: F.mse_loss(net(x, t, context), target)
    if a.variant == "compile":
        net = torch.compile(net, dynamic=False)
    replies = sys.stdout
    sys.stdout = sys.stderr  # compilers print; the pipe is for replies
    reply = lambda **kw: print(json.dumps(kw), file=replies, flush=True)
    reply(name=f"torch {torch.__version__}, {torch.get_num_threads()} threads", load_seconds=time.perf_counter() - start,
          parameters=sum(w.numel() for w in weights))

    for line in sys.stdin:
        if line.strip() != "go":
            sys.exit(f"unknown command {line!r}")
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - 0.9999)
        value = loss.item()
        reply(seconds=time.perf_counter() - begin, loss=value)


if __name__ == "__main__":
    main()
