"""Records trajectories of diffusers' schedulers on an analytic model, for the solver tests of package sample.

    python3 -m venv VENV && VENV/bin/pip install torch diffusers safetensors
    VENV/bin/python bench/solvers/record.py sample/testdata/solvers.safetensors

Needs no weights and no network. The model predicts the noise of Gaussian data exactly: coordinates of x_0 are independent with
mean mu and standard deviation s, so that eps = sigma (x - alpha mu) / (alpha^2 s^2 + sigma^2), computed in float64 from the
alpha and sigma of the time that the scheduler passes, whose log(sigma/alpha) is linear between whole times.

Entries of the file:
    alphas_cumprod            the table of the schedulers, which compute it in float32
    mean, deviation           mu and s of each coordinate
    x_T                       standard normal start, N x coordinates
    SAMPLER.SPACING.STEPS.t   times that the model was asked at, one for each step (Heun: its first prediction)
    SAMPLER.SPACING.STEPS.x   latents after each step in the variance-preserving scale, steps x N x coordinates, float32
    SAMPLER.SPACING.STEPS.n   noise of each step (euler-a)
"""

import sys

import diffusers
import numpy as np
import torch
from safetensors.numpy import save_file

BETAS = dict(num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195)
ROWS, SIZE = 2, 8
random = np.random.default_rng(20230)
MEAN = random.normal(size=SIZE)
DEVIATION = random.uniform(0.2, 1.5, size=SIZE)
START = torch.from_numpy(random.normal(size=(ROWS, SIZE)).astype(np.float32))

TABLE = diffusers.DDIMScheduler(**BETAS).alphas_cumprod.numpy()
LOGS = np.log(np.sqrt((1 - TABLE.astype(np.float64)) / TABLE.astype(np.float64)))


def predict(x, t):
    ratio = np.exp(np.interp(float(t), np.arange(len(LOGS)), LOGS))
    alpha = 1 / np.sqrt(1 + ratio**2)
    sigma = ratio * alpha
    eps = sigma * (x.double().numpy() - alpha * MEAN) / (alpha**2 * DEVIATION**2 + sigma**2)
    return torch.from_numpy(eps.astype(np.float32))


def record(scheduler, exploding, steps, noisy=False):
    """Walks in the variance-preserving scale: the schedulers that keep x_0 + ratio noise are given and read in it."""
    assert np.array_equal(scheduler.alphas_cumprod.numpy(), TABLE)
    scheduler.set_timesteps(steps)
    x = START.clone()
    if exploding:  # not init_noise_sigma, which is the ratio itself for some spacings
        x = x * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
    generator, twin = torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    times, latents, noise = [], [], []
    heun = isinstance(scheduler, diffusers.HeunDiscreteScheduler)
    for i, t in enumerate(scheduler.timesteps):
        eps = predict(scheduler.scale_model_input(x, t), t)
        if noisy:
            noise.append(torch.randn(x.shape, generator=twin).numpy())
            x = scheduler.step(eps, t, x, generator=generator).prev_sample
        else:
            x = scheduler.step(eps, t, x).prev_sample
        last = i == len(scheduler.timesteps) - 1
        if heun and not last and i % 2 == 0:
            times.append(float(t))
            continue  # half a step
        if not heun or last:
            times.append(float(t))
        ratio = float(scheduler.sigmas[i + 1]) if exploding else 0.0
        latents.append((x / (ratio**2 + 1) ** 0.5).numpy())
    out = {"t": np.array(times, np.float32), "x": np.stack(latents).astype(np.float32)}
    if noisy:
        out["n"] = np.stack(noise)
    return out


def main(path):
    spacings = {
        "linspace": dict(timestep_spacing="linspace"),
        "trailing": dict(timestep_spacing="trailing"),
        "karras": dict(use_karras_sigmas=True),
        "uniform": dict(timestep_spacing="leading", steps_offset=1),
    }
    samplers = {  # scheduler, its options, whether it keeps x_0 + ratio noise, spacings
        "dpmpp-2m": (diffusers.DPMSolverMultistepScheduler, {}, False, ["linspace", "trailing", "karras"]),
        "unipc": (diffusers.UniPCMultistepScheduler, {}, False, ["linspace", "trailing", "karras"]),
        "heun": (diffusers.HeunDiscreteScheduler, {}, True, list(spacings)),
        "euler": (diffusers.EulerDiscreteScheduler, {}, True, list(spacings)),
        "euler-a": (diffusers.EulerAncestralDiscreteScheduler, {}, True, ["linspace", "trailing", "uniform"]),
        "ddim": (diffusers.DDIMScheduler, dict(set_alpha_to_one=False, clip_sample=False), False, ["trailing", "uniform"]),
    }
    out = {"alphas_cumprod": TABLE, "mean": MEAN, "deviation": DEVIATION, "x_T": START.numpy()}
    for name, (cls, options, exploding, names) in samplers.items():
        for spacing in names:
            for steps in (4, 10, 20) if exploding else (1, 4, 10, 20):  # one step of Euler's linspace is at time 0
                scheduler = cls(**BETAS, **options, **spacings[spacing])
                run = record(scheduler, exploding, steps, noisy=name == "euler-a")
                for key, value in run.items():
                    out[f"{name}.{spacing}.{steps}.{key}"] = value
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, path, metadata={"diffusers": diffusers.__version__, "torch": torch.__version__})
    print(f"{path}: {len(out)} entries, diffusers {diffusers.__version__}")


if __name__ == "__main__":
    main(sys.argv[1])
