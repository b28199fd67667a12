"""Compares training steps with PyTorch: time, memory, losses.

A step of the U-Net is a forward and a backward pass, AdamW and the running average of the weights: 16 M parameters, 8 latents of 32x32.
A step of the first stage is both passes, that of the autoencoder and that of its discriminator, each with its Adam, with or without
the perceptual distance: 4 images of 64x64. As in compare.py, all variants live at the same time and make one step each in turn.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

import compare
import first_stage
import networks
import safetensors_file
import trainer

TOLERANCE = 1e-4  # relative difference of losses of the first steps
# Steps of which losses are compared. Adam turns the smallest gradients into steps of full size, and a discriminator that just begins
# exaggerates what comes of it: with one, steps agree one by one but not for long.
COMPARED = {"unet": 3, "first-stage": 1, "first-stage-perceptual": 1}


class Runner(compare.Runner):
    """A child process that makes training steps, and its losses."""

    def __init__(self, *args):
        self.losses = []
        super().__init__(*args)

    def ask(self, command: str) -> dict:
        reply = super().ask(command)
        self.losses.append(reply["losses"])
        return reply


def prepare(model: str, a) -> tuple:
    """Writes weights and inputs; returns both paths."""
    weights = a.out / f"train-{model}-{'small' if a.quick else 'full'}-{a.seed}.safetensors"
    folder = a.out / f"train-inputs-{model}"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(a.seed)
    if model == "unet":
        sizes = trainer.SMALL if a.quick else trainer.SIZES
        with torch.device("meta"):
            net = networks.LatentDiffusion(sizes)
        net.to_empty(device="cpu")
        networks.randomize(net, a.seed)
        state = dict(net.named_parameters())
        shape = (a.batch, sizes.latent_channels, a.size, a.size)
        inputs = {"x": rng.standard_normal(shape), "t": rng.integers(1000, size=a.batch),
                  "context": rng.standard_normal((a.batch, 1, sizes.context_dim)), "target": rng.standard_normal(shape)}
    else:
        sizes = first_stage.SMALL if a.quick else first_stage.FULL
        net = first_stage.FirstStage(sizes)
        first_stage.randomize(net, a.seed)
        state = net.state()
        latent = (a.batch, sizes.latent_channels, a.size // 4, a.size // 4)
        inputs = {"image": rng.uniform(-1, 1, (a.batch, 3, a.size, a.size)), "noise0": rng.standard_normal(latent),
                  "noise1": rng.standard_normal(latent)}
    safetensors_file.write(weights, {name: p.detach().float().numpy() for name, p in state.items()})
    for name, x in inputs.items():
        np.ascontiguousarray(x, np.float32).tofile(folder / f"{name}.f32")
    return weights, folder


def run(model: str, threads: int, a, weights: Path, inputs: Path, binary: Path) -> dict:
    config = compare.HERE / f"{'train' if model == 'unet' else 'first-stage'}{'-small' if a.quick else ''}.yaml"
    common = ["--model", model, "--weights", str(weights), "--inputs", str(inputs), "--threads", str(threads), "--batch", str(a.batch), "--size", str(a.size)]
    runners = []
    try:
        for variant in [compare.OURS, *a.variants]:
            if variant == compare.OURS:
                command = [str(binary), "--config", str(config), *common]
            else:
                command = [sys.executable, "trainer.py", "--variant", variant, *common, *(["--small"] if a.quick else [])]
            print(f"{model}, {threads} threads: starting {variant}", flush=True)
            runners.append(Runner(variant, command, threads, a.out / "inductor", a.out / "children.log"))
            runners[-1].warm()
        for _ in range(a.rounds):
            for runner in runners:
                runner.measure()
        results = [r.finish() for r in runners]
    finally:
        for runner in runners:
            runner.close()
    ours, theirs = results[0], results[1:]
    best = min(theirs, key=lambda r: r.min_seconds)
    first = np.array([r.losses[:COMPARED[model]] for r in runners])
    return {
        "model": model, "threads": threads, "batch": a.batch, "size": a.size, "rounds": a.rounds,
        "results": [asdict(r) for r in results], "losses": {r.result.variant: r.losses for r in runners},
        "best": best.variant, "ratio_min": best.min_seconds / ours.min_seconds,
        "ratio_median": min(r.median_seconds for r in theirs) / ours.median_seconds,
        "ratio_cpu": min(r.cpu_seconds for r in theirs) / ours.cpu_seconds,
        "ratio_peak_memory": ours.peak_bytes / min(r.peak_bytes for r in theirs),
        "loss_difference": float(np.abs(first / first[0] - 1).max()),
    }


def numbers(losses: list) -> str:
    return " ".join(f"{v:.6g}" for v in losses)


def table(c: dict):
    print(f"\ntraining step of {c['model']}, batch {c['batch']}, {c['size']}x{c['size']}, {c['threads']} threads, {c['rounds']} rounds")
    print(f"{'variant':22} {'min ms':>8} {'median':>8} {'ratio':>6} {'CPU ms':>8} {'start s':>8} {'first s':>8} {'peak MB':>8} {'others':>7}  losses")
    ours = c["results"][0]["min_seconds"]
    for r in c["results"]:
        losses = c["losses"][r["variant"]]
        print(f"{r['variant']:22} {1e3 * r['min_seconds']:8.1f} {1e3 * r['median_seconds']:8.1f} {r['min_seconds'] / ours:6.2f} "
              f"{1e3 * r['cpu_seconds']:8.1f} {r['start_seconds']:8.2f} {r['first_seconds']:8.2f} {r['peak_bytes'] / 1e6:8.0f} "
              f"{r['others']:7.0%}  {numbers(losses[0])}; {numbers(losses[1])} ... {numbers(losses[-1])}")
    print(f"best of PyTorch: {c['best']}; {c['ratio_min']:.2f} times as long as ours by minima, {c['ratio_median']:.2f} by medians, "
          f"{c['ratio_cpu']:.2f} by time on processors; our peak memory is {c['ratio_peak_memory']:.2f} of the least of PyTorch's; "
          f"losses differ by {c['loss_difference']:.1e}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--quick", action="store_true", help="a small network: checks that all parts work")
    p.add_argument("--models", nargs="+", choices=trainer.MODELS, default=list(trainer.MODELS))
    p.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    p.add_argument("--variants", nargs="+", choices=trainer.VARIANTS, default=list(trainer.VARIANTS))
    p.add_argument("--rounds", type=int, default=0, help="steps of each variant (default 8, quick 3)")
    p.add_argument("--batch", type=int, default=0, help="default 8, first stages 4, quick 2")
    p.add_argument("--size", type=int, default=0, help="side of the latent (default 32, quick 16) or image (64, 32)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--out", type=Path, default=compare.HERE / "out", help="folder of weights, compiler cache and results")
    a = p.parse_args()
    a.out = a.out.resolve()
    a.rounds = a.rounds or (3 if a.quick else 8)
    a.out.mkdir(parents=True, exist_ok=True)
    binary = a.out / "train"
    subprocess.run([shutil.which("go") or "go", "build", "-o", str(binary), "./train"], cwd=compare.HERE, check=True)

    report = {"torch": torch.__version__, "python": platform.python_version(), "processor": compare.processor(),
              "system": platform.platform(), "capability": torch.backends.cpu.get_cpu_capability(),
              "load": os.getloadavg(), "date": time.strftime("%Y-%m-%d %H:%M"), "comparisons": []}
    print(f"{report['processor']}, torch {report['torch']} ({report['capability']}), load {report['load'][0]:.1f}")
    wrong, batch, size = [], a.batch, a.size
    for model in a.models:
        unet = model == "unet"
        a.batch = batch or (2 if a.quick else 8 if unet else 4)
        a.size = size or (16 if a.quick else 32) * (1 if unet else 2)
        weights, inputs = prepare(model, a)
        for threads in a.threads:
            c = run(model, threads, a, weights, inputs, binary)
            report["comparisons"].append(c)
            table(c)
            (a.out / ("train-quick.json" if a.quick else "train.json")).write_text(json.dumps(report, indent=1))
            if not c["loss_difference"] <= TOLERANCE:
                wrong.append(f"{model}, {threads} threads: losses differ by {c['loss_difference']:.2g}")
    if wrong:
        sys.exit("results differ:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
