"""A KL first stage, its discriminator and the perceptual distance in plain PyTorch: the yardstick of bench/train.py.

Layers have the names of the state dict of a first stage with its loss. The training step is what a careful PyTorch user would write:
the autoencoder runs forward and backward once for each pass, although its loss has a weight that depends on two gradients; frozen
weights have no gradients; and the parts that are compiled are whole networks.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import networks


@dataclass(frozen=True)
class Sizes(networks.Sizes):
    ae_channels: int = 64
    num_res_blocks: int = 2
    kl_weight: float = 1e-6
    disc_weight: float = 0.5
    discriminator_channels: int = 64


FULL = Sizes()
SMALL = Sizes(ae_channels=32, num_res_blocks=1)


class Posterior(nn.Module):
    """Images (N,3,H,W) to latents (N,C,H/4,W/4) and the divergence from the normal distribution, a mean over samples."""

    def __init__(self, s: Sizes):
        super().__init__()
        c = s.latent_channels
        self.encoder, self.quant_conv = networks.Encoder(s), nn.Conv2d(2 * c, 2 * c, 1)
        self.encoder.conv_out = networks.conv3(s.ae_channels * s.ae_mult[-1], 2 * c)

    def forward(self, image: Tensor, noise: Tensor):
        mean, logvar = self.quant_conv(self.encoder(image)).chunk(2, dim=1)
        logvar = logvar.clamp(-30, 20)
        kl = 0.5 * (mean * mean + logvar.exp() - 1 - logvar).sum() / len(image)
        return mean + (0.5 * logvar).exp() * noise, kl


class Features(nn.Module):
    """Latents to what the decoder's last layer, which is apart, makes images of."""

    def __init__(self, s: Sizes):
        super().__init__()
        c = s.latent_channels
        self.decoder, self.post_quant_conv = networks.Decoder(s), nn.Conv2d(c, c, 1)
        self.last = self.decoder.conv_out
        self.decoder.conv_out = nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z))


class Discriminator(nn.Module):
    """Judges patches; three layers halve the resolution."""

    def __init__(self, s: Sizes):
        super().__init__()
        d = s.discriminator_channels
        layers = [nn.Conv2d(3, d, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        for i in (1, 2, 3):
            layers += [nn.Conv2d(d << (i - 1), d << i, 4, 2 if i < 3 else 1, 1, bias=False), nn.BatchNorm2d(d << i), nn.LeakyReLU(0.2, True)]
        self.main = nn.Sequential(*layers, nn.Conv2d(d << 3, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


class Perceptual(nn.Module):
    """The distance of images by their features in VGG16, which are scaled to unit length at each pixel."""

    SLICES = ((64, (0, 2)), (128, (5, 7)), (256, (10, 12, 14)), (512, (17, 19, 21)), (512, (24, 26, 28)))

    def __init__(self):
        super().__init__()
        self.net, at = nn.Module(), 3
        for i, (channels, numbers) in enumerate(self.SLICES):
            part = nn.Module()
            for k in numbers:
                part.add_module(str(k), networks.conv3(at, channels))
                at = channels
            self.net.add_module(f"slice{i + 1}", part)
            head = nn.Module()
            head.model = nn.ModuleList([nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False)])
            self.add_module(f"lin{i}", head)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)

    def features(self, x: Tensor) -> list:
        x, list = (x - self.shift) / self.scale, []
        for i, (_, numbers) in enumerate(self.SLICES):
            if i:
                x = F.max_pool2d(x, 2)
            for k in numbers:
                x = F.relu(getattr(getattr(self.net, f"slice{i + 1}"), str(k))(x), inplace=True)
            list.append(x)
        return list

    def forward(self, image: Tensor, rec: Tensor) -> Tensor:
        """The mean distance; only rec has a gradient."""
        with torch.no_grad():
            want = self.features(image)
        total = 0
        for i, (a, b) in enumerate(zip(want, self.features(rec))):
            a, b = (f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10) for f in (a, b))
            total = total + getattr(self, f"lin{i}").model[1]((a - b).square()).mean((2, 3))
        return total.mean()


class FirstStage(nn.Module):
    """All networks; state() names their tensors as a checkpoint does."""

    def __init__(self, s: Sizes):
        super().__init__()
        self.sizes = s
        self.posterior, self.features, self.discriminator, self.perceptual = Posterior(s), Features(s), Discriminator(s), Perceptual()

    def state(self) -> dict:
        names = {"posterior.": "", "features.last.": "decoder.conv_out.", "features.": "", "discriminator.": "loss.discriminator.",
                 "perceptual.": "loss.perceptual_loss."}
        state = {}
        for name, x in (*self.named_parameters(), *self.named_buffers()):
            if name in ("perceptual.shift", "perceptual.scale"):
                continue
            prefix = next(p for p in names if name.startswith(p))
            state[names[prefix] + name[len(prefix):]] = x
        return state


def randomize(model: FirstStage, seed: int):
    """Weights of networks.randomize; heads of the distance are positive, and its features keep their size."""
    networks.randomize(model, seed)
    with torch.no_grad():
        for m in model.discriminator.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.mul_(0.2).add_(0.8)
                m.reset_running_stats()
        for name, p in model.perceptual.named_parameters():
            if name.startswith("lin"):
                p.abs_()
            elif p.dim() > 1:
                p.mul_(2**0.5)


class Step:
    """Training steps: the autoencoder's pass and its Adam, then the discriminator's."""

    def __init__(self, model: FirstStage, perceptual: bool, image: Tensor, noise: list, compiled: bool):
        self.m, self.image, self.noise, self.perceptual = model, image, noise, perceptual
        adam = lambda *nets: torch.optim.Adam([p for n in nets for p in n.parameters()], lr=1e-4, betas=(0.5, 0.9), eps=1e-8, fused=True)
        self.stage_adam, self.disc_adam = adam(model.posterior, model.features), adam(model.discriminator)
        model.perceptual.requires_grad_(False)
        last, self.last = model.features.last, model.features.last.weight
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)

        def encode_decode(image, noise):
            z, kl = model.posterior(image, noise)
            return model.features(z), kl

        self.encode_decode, self.image_of, self.discriminate = wrap(encode_decode), last, wrap(model.discriminator)
        self.reconstruct = wrap(lambda image, noise: last(encode_decode(image, noise)[0]))
        if perceptual:
            self.difference = wrap(lambda image, rec: (image - rec).abs().mean() + model.perceptual(image, rec))
        else:
            self.difference = wrap(lambda image, rec: (image - rec).abs().mean())

    def __call__(self) -> list:
        m, image, s = self.m, self.image, self.m.sizes
        m.discriminator.requires_grad_(False)
        features, kl = self.encode_decode(image, self.noise[0])
        rec = self.image_of(features)
        leaf = rec.detach().requires_grad_()
        difference = self.difference(image, leaf)
        by_difference, = torch.autograd.grad(difference * image[0].numel(), leaf)
        by_judgement, = torch.autograd.grad(-self.discriminate(leaf).mean(), leaf)
        at_last = [torch.autograd.grad(rec, self.last, g, retain_graph=True)[0].norm() for g in (by_difference, by_judgement)]
        weight = (at_last[0] / (at_last[1] + 1e-4)).clamp(0, 1e4) * s.disc_weight
        self.stage_adam.zero_grad(set_to_none=True)
        torch.autograd.backward([rec, kl], [by_difference + weight * by_judgement, torch.tensor(s.kl_weight)])
        self.stage_adam.step()

        with torch.no_grad():
            rec = self.reconstruct(image, self.noise[1])
        m.discriminator.requires_grad_(True)
        self.disc_adam.zero_grad(set_to_none=True)
        judge = 0.5 * (F.relu(1 - self.discriminate(image)).mean() + F.relu(1 + self.discriminate(rec)).mean())
        judge.backward()
        self.disc_adam.step()
        return [difference.item(), weight.item(), judge.item()]
