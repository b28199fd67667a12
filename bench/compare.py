"""Compares the networks of this project with PyTorch: time, memory, results.

Every variant is a process of its own that has loaded the same weights. All processes of one network and thread count live
at the same time and run one forward each in turn, so that what else the machine does meets all alike.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

import forward
import networks
import safetensors_file

HERE = Path(__file__).resolve().parent
OURS = "ldm-batch"
TOLERANCE = 1e-5  # relative L2 difference of the outputs


@dataclass
class Result:
    variant: str
    name: str = ""  # version, or instruction set
    start_seconds: float = 0  # from starting the process to weights being ready, on a warm file cache
    first_seconds: float = 0  # the first forward; compiles where the variant does
    min_seconds: float = 0
    median_seconds: float = 0
    cpu_seconds: float = 0  # least time on processors of one forward, all threads together; depends little on others
    others: float = 0  # mean share of the machine's processors that other processes took meanwhile
    peak_bytes: int = 0  # resident memory, highest value of the process's life
    steady_bytes: int = 0  # the same from the third forward on
    seconds: list = field(default_factory=list)  # of each forward
    cpu: list = field(default_factory=list)
    details: dict = field(default_factory=dict)  # the process's first line


def processor_seconds(pid: int) -> tuple:
    """Time that the machine's processors were busy, and that the process's threads ran."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, softirq, steal = map(int, f.readline().split()[1:9])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy, sum(int((t / "schedstat").read_text().split()[0]) for t in Path(f"/proc/{pid}/task").iterdir()) / 1e9


class Runner:
    """A child process that runs forwards on command."""

    def __init__(self, variant: str, command: list, threads: int, cache: Path, log: Path, limits: dict = {}):
        env = dict(os.environ)
        for name in ("OPENBLAS_CORETYPE", "MKL_DEBUG_CPU_TYPE", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "GODEBUG"):
            env.pop(name, None)
        env.update(limits)
        env.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), GOMAXPROCS=str(threads),
                   OMP_WAIT_POLICY=env.get("OMP_WAIT_POLICY", "passive"), TORCHINDUCTOR_CACHE_DIR=str(cache))
        self.result = Result(variant)
        self.shares = []
        self.log = open(log, "a")
        start = time.perf_counter()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        text=True, env=env, cwd=HERE)
        self.result.details = self.reply()
        self.result.start_seconds = time.perf_counter() - start
        self.result.name = self.result.details["name"]

    def reply(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.result.variant} ended with status {self.process.wait()}; see {self.log.name}")
        return json.loads(line)

    def ask(self, command: str) -> dict:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.reply()

    def warm(self):
        self.result.first_seconds = self.ask("go")["seconds"]
        self.ask("go")
        self.result.peak_bytes = self.memory()
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as f:
            f.write("5")  # restarts the highest value

    def measure(self):
        busy, own = processor_seconds(self.process.pid)
        begin = time.perf_counter()
        self.result.seconds.append(self.ask("go")["seconds"])
        wall = time.perf_counter() - begin
        busy_after, own_after = processor_seconds(self.process.pid)
        self.result.cpu.append(own_after - own)
        self.shares.append(max(0.0, (busy_after - busy - own_after + own) / (wall * os.cpu_count())))

    def memory(self) -> int:
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(1024 * int(line.split()[1]) for line in f if line.startswith("VmHWM"))

    def finish(self) -> Result:
        r = self.result
        r.min_seconds, r.median_seconds = min(r.seconds), statistics.median(r.seconds)
        r.others, r.cpu_seconds = statistics.mean(self.shares), min(r.cpu)
        r.steady_bytes = self.memory()
        r.peak_bytes = max(r.peak_bytes, r.steady_bytes)
        return r

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def prepare(out: Path, small: bool, batch: int, size: int, seed: int) -> tuple:
    """Writes weights, once, and inputs; returns both paths."""
    sizes = networks.SMALL if small else networks.FULL
    weights = out / f"{'small' if small else 'cin256-v2'}-{seed}.safetensors"
    if not weights.exists():
        print(f"writing random weights to {weights}", flush=True)
        with torch.device("meta"):
            model = networks.LatentDiffusion(sizes)
        model.to_empty(device="cpu")
        networks.randomize(model, seed)
        safetensors_file.write(weights, {name: p.detach().numpy() for name, p in model.named_parameters()})
    folder = out / "inputs"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    shape = (batch, sizes.latent_channels, size, size)
    codebook = np.empty((sizes.codes, sizes.latent_channels), np.float32)
    safetensors_file.read_into(weights, {"first_stage_model.quantize.embedding.weight": codebook})
    # Latents near codes, as those of a trained model are: what is nearest does not hang on a rounding error.
    z = codebook[rng.integers(len(codebook), size=(batch, size, size))].transpose(0, 3, 1, 2)
    for name, x in {
        "x": rng.standard_normal(shape),
        "t": rng.integers(1000, size=batch),
        "context": rng.standard_normal((batch, 1, sizes.context_dim)),
        "z": z + 0.01 * rng.standard_normal(shape),
    }.items():
        np.ascontiguousarray(x, np.float32).tofile(folder / f"{name}.f32")
    return weights, folder


def difference(a: Path, b: Path) -> dict:
    x, y = (np.fromfile(p, np.float32).astype(np.float64) for p in (a, b))
    return {"relative_l2": float(np.linalg.norm(x - y) / np.linalg.norm(y)), "max_abs": float(np.abs(x - y).max()),
            "rms": float(np.sqrt(np.mean(y * y)))}


def compare(net: str, threads: int, a, weights: Path, inputs: Path, binary: Path) -> dict:
    common = ["--net", net, "--weights", str(weights), "--inputs", str(inputs), "--threads", str(threads),
              "--batch", str(a.batch), "--size", str(a.size)]
    config = HERE / ("small.yaml" if a.quick else "cin256-v2.yaml")
    runners, outputs = [], {}
    cache, log = a.out / "inductor", a.out / "children.log"
    with open(weights, "rb") as f:  # warm the file cache
        while f.read(1 << 24):
            pass
    try:
        for variant in [OURS, *a.variants]:
            if variant == OURS:
                command = [str(binary), "--config", str(config), *common]
            else:
                command = [sys.executable, "forward.py", "--variant", variant, *common, *(["--small"] if a.quick else [])]
            print(f"{net}, {threads} threads: starting {variant}", flush=True)
            runner = Runner(variant, command, threads, cache, log)
            runners.append(runner)
            runner.warm()
        for _ in range(a.rounds):
            for runner in runners:
                runner.measure()
        for runner in runners:
            outputs[runner.result.variant] = a.out / f"{net}-{runner.result.variant}.f32"
            runner.ask(f"save {outputs[runner.result.variant]}")
        results = [r.finish() for r in runners]
    finally:
        for runner in runners:
            runner.close()
    ours, theirs = results[0], results[1:]
    best = min(theirs, key=lambda r: r.min_seconds)
    lean = min(theirs, key=lambda r: r.peak_bytes)
    return {
        "net": net, "threads": threads, "batch": a.batch, "size": a.size, "rounds": a.rounds,
        "results": [asdict(r) for r in results],
        "best": best.variant, "ratio_min": best.min_seconds / ours.min_seconds,
        "ratio_median": min(r.median_seconds for r in theirs) / ours.median_seconds,
        "ratio_cpu": min(r.cpu_seconds for r in theirs) / ours.cpu_seconds,
        "ratio_peak_memory": ours.peak_bytes / best.peak_bytes,
        "leanest": lean.variant, "ratio_peak_memory_leanest": ours.peak_bytes / lean.peak_bytes,
        "difference": {r.variant: difference(outputs[OURS], outputs[r.variant]) for r in theirs},
    }


def table(c: dict):
    print(f"\n{c['net']}, batch {c['batch']}, latent {c['size']}x{c['size']}, {c['threads']} threads, {c['rounds']} rounds")
    print(f"{'variant':22} {'min ms':>8} {'median':>8} {'ratio':>6} {'CPU ms':>8} {'start s':>8} {'first s':>8} {'peak MB':>8} {'steady':>7} "
          f"{'others':>7} {'relL2':>8} {'max abs':>8}")
    ours = c["results"][0]["min_seconds"]
    for r in c["results"]:
        d = c["difference"].get(r["variant"])
        print(f"{r['variant']:22} {1e3 * r['min_seconds']:8.1f} {1e3 * r['median_seconds']:8.1f} {r['min_seconds'] / ours:6.2f} "
              f"{1e3 * r['cpu_seconds']:8.1f} "
              f"{r['start_seconds']:8.2f} {r['first_seconds']:8.2f} {r['peak_bytes'] / 1e6:8.0f} {r['steady_bytes'] / 1e6:7.0f} "
              f"{r['others']:7.0%} " + (f"{d['relative_l2']:8.1e} {d['max_abs']:8.1e}" if d else ""))
    print(f"best of PyTorch: {c['best']}; {c['ratio_min']:.2f} times as long as ours by minima, {c['ratio_median']:.2f} by medians, "
          f"{c['ratio_cpu']:.2f} by time on processors; "
          f"our peak memory is {c['ratio_peak_memory']:.2f} of its, {c['ratio_peak_memory_leanest']:.2f} of {c['leanest']}'s",
          flush=True)


def processor() -> str:
    with open("/proc/cpuinfo") as f:
        names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    return f"{len(names)} x {names[0]}"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--quick", action="store_true", help="small networks and sizes: checks that all parts work")
    p.add_argument("--nets", nargs="+", choices=("unet", "decoder"), default=["unet", "decoder"])
    p.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    p.add_argument("--variants", nargs="+", choices=forward.VARIANTS, default=list(forward.VARIANTS[:3]))
    p.add_argument("--rounds", type=int, default=0, help="forwards of each variant (default 10, quick 3)")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--size", type=int, default=0, help="side of the latent (default 64, quick 16)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--out", type=Path, default=HERE / "out", help="folder of weights, compiler cache and results")
    a = p.parse_args()
    a.out = a.out.resolve()
    a.size = a.size or (16 if a.quick else 64)
    a.rounds = a.rounds or (3 if a.quick else 10)
    a.out.mkdir(parents=True, exist_ok=True)
    binary = a.out / "forward"
    subprocess.run([shutil.which("go") or "go", "build", "-o", str(binary), "./forward"], cwd=HERE, check=True)
    weights, inputs = prepare(a.out, a.quick, a.batch, a.size, a.seed)

    report = {"torch": torch.__version__, "python": platform.python_version(), "processor": processor(),
              "system": platform.platform(), "capability": torch.backends.cpu.get_cpu_capability(),
              "load": os.getloadavg(), "date": time.strftime("%Y-%m-%d %H:%M"), "comparisons": []}
    print(f"{report['processor']}, torch {report['torch']} ({report['capability']}), load {report['load'][0]:.1f}")
    wrong = []
    for net in a.nets:
        for threads in a.threads:
            c = compare(net, threads, a, weights, inputs, binary)
            report["comparisons"].append(c)
            table(c)
            (a.out / ("quick.json" if a.quick else "compare.json")).write_text(json.dumps(report, indent=1))
            wrong += [f"{net}, {threads} threads, {v}: relative L2 difference {d['relative_l2']:.2g}"
                      for v, d in c["difference"].items() if not d["relative_l2"] <= TOLERANCE]
    if wrong:
        sys.exit("results differ:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
