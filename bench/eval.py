"""Compares evaluation with PyTorch and the usual programs: scores, features a second, whole commands, memory.

Weights are those that the reference vectors are made with: functions of a tensor's name and shape. Pictures are real ones. The
network alone is measured as in compare.py: all variants live at the same time and make one batch each in turn. The programs run one
after the other, each as a process of its own from start to end.
"""

import argparse
import io
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from PIL import Image

import compare
import scorer

# Scores of each program, as it computes them; "exact" ones are made of its features in double precision.
METRICS = {"torch-fidelity": ("fid", "kid", "is", "precision", "recall"), "pytorch-fid": ("fid",), "clean-fid": ("fid", "kid", "exact fid", "exact kid")}

# What keeps PyTorch to an instruction set.
LIMITS = {"avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}}


def formula(name: str, shape: tuple, norms: set) -> np.ndarray:
    """The float32 values of an entry of the state dict; norms are the prefixes of normalisations."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    z = np.uint64(h) + np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    u = ((z ^ z >> np.uint64(31)) >> np.uint64(40)).astype(np.float64) / 2**24
    prefix, _, last = name.rpartition(".")
    if last == "running_mean":
        v = (2 * u - 1) * 0.2
    elif last == "running_var" or last == "weight" and prefix in norms:
        v = 0.5 + u
    elif last == "weight":
        v = (2 * u - 1) * math.sqrt(6 / math.prod(shape[1:]))
    else:
        v = (2 * u - 1) * (0.2 if prefix in norms else 0.1)
    return v.astype(np.float32).reshape(shape)


def write_weights(path: Path):
    """Writes the state dict of the Inception-v3 with 1008 logits, as pytorch-fid and torch-fidelity read it."""
    if path.exists():
        return
    from pytorch_fid import inception

    inception.load_state_dict_from_url = lambda *_, **__: state
    state = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    for name, block in {"Mixed_5b": inception.FIDInceptionA(192, 32), "Mixed_5c": inception.FIDInceptionA(256, 64), "Mixed_5d": inception.FIDInceptionA(288, 64),
                        **{f"Mixed_6{x}": inception.FIDInceptionC(768, c) for x, c in zip("bcde", (128, 160, 160, 192))},
                        "Mixed_7b": inception.FIDInceptionE_1(1280), "Mixed_7c": inception.FIDInceptionE_2(2048)}.items():
        setattr(state, name, block)
    entries = state.state_dict()
    norms = {name.removesuffix(".running_var") for name in entries if name.endswith(".running_var")}
    out = {name: x if name.endswith("num_batches_tracked") else torch.from_numpy(formula(name, tuple(x.shape), norms)) for name, x in entries.items()}
    part = path.with_suffix(".part")
    torch.save(out, part)
    part.rename(path)


def write_pictures(data: Path, out: Path, n: int) -> list:
    """Writes two folders of n pictures of 256x256 pixels as PNG."""
    folders = []
    for split in ("train", "test"):
        folder = out / f"{split}-{n}"
        folders.append(folder)
        if folder.exists():
            continue
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        left = n
        for file in sorted((data / "clothing").glob(f"{split}-*.parquet")):
            column = pyarrow.parquet.read_table(file, columns=["image"]).column("image").to_pylist()
            step = max(1, len(column) // n) if split == "test" else 1
            for row in column[::step][:left]:
                image = Image.open(io.BytesIO(row["bytes"])).convert("RGB")
                s = 256 / min(image.size)
                image = image.resize((max(256, round(image.width * s)), max(256, round(image.height * s))), Image.Resampling.LANCZOS)
                x, y = (image.width - 256) // 2, (image.height - 256) // 2
                image.crop((x, y, x + 256, y + 256)).save(part / f"{n - left:05d}.png")
                left -= 1
        if left:
            raise SystemExit(f"{data / 'clothing'} has fewer than {n} pictures of the split {split}")
        part.rename(folder)
    return folders


# Runs a command and prints its peak of resident memory, in kilobytes: until it runs something else, a child counts as large as its parent,
# which must therefore be small.
LAUNCHER = """
import os, sys
_, status, usage = os.wait4(os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ), 0)
print("\\n%d" % usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def timed(command: list, threads: int) -> tuple:
    """Runs a command; returns what it printed last, seconds, and its peak of resident memory in bytes."""
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads), GOMAXPROCS=str(threads))
    start = time.perf_counter()
    p = subprocess.run([sys.executable, "-S", "-c", LAUNCHER, *command], capture_output=True, text=True, env=env, cwd=compare.HERE)
    seconds = time.perf_counter() - start
    if p.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {p.returncode}:\n{p.stderr[-2000:]}")
    return json.loads(p.stdout.strip().splitlines()[-1]), seconds, 1024 * int(p.stderr.strip().splitlines()[-1])


def features(threads: int, a, weights: Path, inputs: Path, binary: Path) -> dict:
    runners = []
    try:
        for variant in [compare.OURS, *a.variants]:
            if variant == compare.OURS:
                command = [str(binary), "--net", "inception", "--weights", str(weights), "--inputs", str(inputs), "--threads", str(threads), "--batch", str(a.batch)]
                command += ["--isa", a.isa] if a.isa else []
            else:
                command = [sys.executable, "scorer.py", "features", variant, str(weights), str(inputs), str(threads), str(a.batch)]
            print(f"features, {threads} threads: starting {variant}", flush=True)
            runners.append(compare.Runner(variant, command, threads, a.out / "inductor" / (a.isa or ""), a.out / "children.log", LIMITS.get(a.isa, {})))
            runners[-1].warm()
        for _ in range(a.rounds):
            for runner in runners:
                runner.measure()
        outputs = []
        for runner in runners:
            outputs.append(a.out / f"features-{runner.result.variant}.f32")
            runner.ask(f"save {outputs[-1]}")
        results = [r.finish() for r in runners]
    finally:
        for runner in runners:
            runner.close()
    return {"threads": threads, "batch": a.batch, "isa": a.isa, "rounds": a.rounds, "results": [asdict(r) for r in results],
            "difference": {r.variant: compare.difference(outputs[0], o)["relative_l2"] for r, o in zip(results, outputs)}}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", type=Path, default=compare.HERE.parents[1] / "shared" / "data", help="folder of real pictures: clothing/*.parquet")
    p.add_argument("--pictures", type=int, default=128, help="of each of the two sets")
    p.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    p.add_argument("--variants", nargs="+", choices=scorer.VARIANTS, default=list(scorer.VARIANTS))
    p.add_argument("--tools", nargs="*", choices=scorer.TOOLS, default=list(scorer.TOOLS))
    p.add_argument("--rounds", type=int, default=6, help="batches of each variant")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--isa", choices=LIMITS, help="keep the features of all variants to an instruction set (default: the best of each)")
    p.add_argument("--out", type=Path, default=compare.HERE / "out", help="folder of weights, pictures, compiler cache and results")
    a = p.parse_args()
    a.out = a.out.resolve()
    inputs = a.out / "inputs-inception"
    inputs.mkdir(parents=True, exist_ok=True)
    forward, program, weights = a.out / "forward", a.out / "ldm-batch", a.out / "inception-formula.pth"
    go = shutil.which("go") or "go"
    subprocess.run([go, "build", "-o", str(forward), "./forward"], cwd=compare.HERE, check=True)
    subprocess.run([go, "build", "-o", str(program), "../cmd/ldm-batch"], cwd=compare.HERE, check=True)
    write_weights(weights)
    one, two = write_pictures(a.data, a.out / "pictures", a.pictures)
    batch = np.stack([np.asarray(Image.open(f).resize((299, 299))) for f in sorted(one.iterdir())[:a.batch]])
    np.ascontiguousarray(batch.transpose(0, 3, 1, 2) / 127.5 - 1, np.float32).tofile(inputs / "image.f32")

    report = {"torch": torch.__version__, "python": platform.python_version(), "processor": compare.processor(), "pictures": a.pictures,
              "capability": torch.backends.cpu.get_cpu_capability(), "load": os.getloadavg(), "date": time.strftime("%Y-%m-%d %H:%M"),
              "features": [], "commands": [], "scores": {}}
    print(f"{report['processor']}, torch {report['torch']} ({report['capability']}), load {report['load'][0]:.1f}")
    save = lambda: (a.out / "eval.json").write_text(json.dumps(report, indent=1))

    for threads in a.threads:
        f = features(threads, a, weights, inputs, forward)
        report["features"].append(f)
        save()
        print(f"\nfeatures at 299x299, batch {a.batch}, {threads} threads\n\n| | features/s, best | median | times ours | relative L2 difference | peak, MB | others |\n|---|---|---|---|---|---|---|")
        ours = f["results"][0]["min_seconds"]
        for r in f["results"]:
            print(f"| {r['variant']} | {a.batch / r['min_seconds']:.2f} | {a.batch / r['median_seconds']:.2f} | {r['min_seconds'] / ours:.2f} | "
                  f"{f['difference'][r['variant']]:.1e} | {r['peak_bytes'] / 1e6:.0f} | {r['others']:.0%} |", flush=True)

    def ours(protocol: str, metrics: tuple, threads: int, *more) -> tuple:
        folder = a.out / "score"
        shutil.rmtree(folder, ignore_errors=True)
        return timed([str(program), "eval", "--json", "--generated", str(one), "--reference", str(two), "--inception", str(weights), "--protocol", protocol,
                      "--metrics", ",".join(m for m in metrics if " " not in m), "--threads", str(threads), "--output", str(folder), *more], threads)

    print(f"\nwhole commands, {a.pictures} pictures of 256x256 pixels against {a.pictures}\n\n| program | threads | seconds | ours | times | peak, MB | ours |\n|---|---|---|---|---|---|---|")
    for threads in a.threads:
        for tool in a.tools:
            theirs = timed([sys.executable, "scorer.py", tool, str(weights), str(one), str(two), str(threads)], threads)
            mine = ours(tool, METRICS[tool], threads)
            report["commands"].append({"tool": tool, "threads": threads, "seconds": [theirs[1], mine[1]], "peak_bytes": [theirs[2], mine[2]]})
            report["scores"][tool] = {m: [theirs[0][m], mine[0]["scores"][m.removeprefix("exact ")]] for m in METRICS[tool]}
            save()
            print(f"| {tool} | {threads} | {theirs[1]:.1f} | {mine[1]:.1f} | {theirs[1] / mine[1]:.2f} | {theirs[2] / 1e6:.0f} | {mine[2] / 1e6:.0f} |", flush=True)

    print("\n| program | score | its value | ours | relative difference |\n|---|---|---|---|---|")
    for tool, scores in report["scores"].items():
        for metric, (theirs, mine) in scores.items():
            print(f"| {tool} | {metric} | {theirs:.10g} | {mine:.10g} | {abs(mine - theirs) / max(abs(theirs), 1e-300):.1e} |")

    print("\n| pictures of each set | our peak, MB |\n|---|---|")
    for n in (a.pictures // 4, a.pictures):
        peak = ours("pytorch-fid", ("fid",), a.threads[-1], "--limit", str(n))[2]
        report.setdefault("memory", {})[n] = peak
        print(f"| {n} | {peak / 1e6:.0f} |", flush=True)
    save()


if __name__ == "__main__":
    main()
