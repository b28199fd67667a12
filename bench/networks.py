"""The cin256-v2 latent diffusion model in plain PyTorch: the yardstick of bench/compare.py.

Modules are named so that state dicts have the keys of published checkpoints (`model.diffusion_model.`, `first_stage_model.`,
`cond_stage_model.`). Images and latents are NCHW; all computations are those of inference. The networks use what a careful
PyTorch user would: fused attention, the time embedding's SiLU computed once, and no copies between layouts where channels
come last.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model; the defaults are those of cin256-v2 with its VQ-f4 first stage."""

    model_channels: int = 192
    channel_mult: tuple = (1, 2, 3, 5)
    num_res_blocks: int = 2
    attention_factors: tuple = (8, 4, 2)
    context_dim: int = 512
    classes: int = 1001
    latent_channels: int = 3
    ae_channels: int = 128
    ae_mult: tuple = (1, 2, 4)
    codes: int = 8192


FULL = Sizes()
SMALL = Sizes(model_channels=32, context_dim=64, classes=11, ae_channels=32, codes=256)


def conv3(ci, co, **kw):
    return nn.Conv2d(ci, co, 3, **{"padding": 1, **kw})


def norm(channels, eps):
    return nn.GroupNorm(32, channels, eps=eps)


class ResBlock(nn.Module):
    """Residual block of the U-Net; `emb` is the time embedding after its SiLU."""

    def __init__(self, ci, co, emb):
        super().__init__()
        self.in_layers = nn.Sequential(norm(ci, 1e-5), nn.SiLU(), conv3(ci, co))
        self.emb_layers = nn.Sequential(nn.Identity(), nn.Linear(emb, co))
        self.out_layers = nn.Sequential(norm(co, 1e-5), nn.SiLU(), nn.Identity(), conv3(co, co))
        self.skip_connection = nn.Identity() if ci == co else nn.Conv2d(ci, co, 1)

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class CrossAttention(nn.Module):
    """Attention with one head, from x (N,T,C) to context (N,S,D)."""

    def __init__(self, channels, context):
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (f(y).unsqueeze(1) for f, y in ((self.to_q, x), (self.to_k, context), (self.to_v, context)))
        return self.to_out(F.scaled_dot_product_attention(q, k, v).squeeze(1))


class GEGLU(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.proj = nn.Linear(channels, 8 * channels)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.net = nn.Sequential(GEGLU(channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, channels, context):
        super().__init__()
        self.attn1 = CrossAttention(channels, channels)
        self.ff = FeedForward(channels)
        self.attn2 = CrossAttention(channels, context)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, channels, context):
        super().__init__()
        self.norm = norm(channels, 1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(n, h * w, c)  # a view when channels come last
        for block in self.transformer_blocks:
            y = block(y, context)
        return x + self.proj_out(y.reshape(n, h, w, c).permute(0, 3, 1, 2))


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.op = conv3(channels, channels, stride=2)

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a convolution."""

    def __init__(self, channels):
        super().__init__()
        self.conv = conv3(channels, channels)

    def forward(self, x: Tensor, emb: Tensor = None, context: Tensor = None) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Stem(nn.Conv2d):
    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        return super().forward(x)


class Blocks(nn.Sequential):
    """Modules in a row that all see the time embedding and the context."""

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        for module in self:
            x = module(x, emb, context)
        return x


class UNet(nn.Module):
    """Predicts the noise (N,C,H,W) of x (N,C,H,W), t (N) and context (N,T,D)."""

    def __init__(self, s: Sizes):
        super().__init__()
        self.width = d = s.model_channels
        emb = 4 * d
        self.time_embed = nn.Sequential(nn.Linear(d, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.input_blocks = nn.ModuleList([Blocks(Stem(s.latent_channels, d, 3, padding=1))])
        ch, factor, skips, last = d, 1, [d], len(s.channel_mult) - 1
        for level, mult in enumerate(s.channel_mult):
            for _ in range(s.num_res_blocks):
                layers = [ResBlock(ch, mult * d, emb)]
                ch = mult * d
                if factor in s.attention_factors:
                    layers.append(SpatialTransformer(ch, s.context_dim))
                self.input_blocks.append(Blocks(*layers))
                skips.append(ch)
            if level < last:
                self.input_blocks.append(Blocks(Downsample(ch)))
                skips.append(ch)
                factor *= 2
        self.middle_block = Blocks(ResBlock(ch, ch, emb), SpatialTransformer(ch, s.context_dim), ResBlock(ch, ch, emb))
        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(s.channel_mult))):
            for i in range(s.num_res_blocks + 1):
                layers = [ResBlock(ch + skips.pop(), mult * d, emb)]
                ch = mult * d
                if factor in s.attention_factors:
                    layers.append(SpatialTransformer(ch, s.context_dim))
                if level > 0 and i == s.num_res_blocks:
                    layers.append(Upsample(ch))
                    factor //= 2
                self.output_blocks.append(Blocks(*layers))
        self.out = nn.Sequential(norm(ch, 1e-5), nn.SiLU(), conv3(ch, s.latent_channels))

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        half = self.width // 2
        freq = torch.exp(torch.arange(half, dtype=torch.float32, device=x.device) * (-math.log(10000) / half))
        angle = t.float()[:, None] * freq
        emb = F.silu(self.time_embed(torch.cat([angle.cos(), angle.sin()], dim=1)))  # every ResBlock begins with the SiLU
        skips = []
        for block in self.input_blocks:
            x = block(x, emb, context)
            skips.append(x)
        x = self.middle_block(x, emb, context)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), emb, context)
        return self.out(x)


class AEBlock(nn.Module):
    """Residual block of the autoencoder."""

    def __init__(self, ci, co):
        super().__init__()
        self.norm1, self.conv1 = norm(ci, 1e-6), conv3(ci, co)
        self.norm2, self.conv2 = norm(co, 1e-6), conv3(co, co)
        if ci != co:
            self.nin_shortcut = nn.Conv2d(ci, co, 1)
        self.same = ci == co

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (x if self.same else self.nin_shortcut(x)) + h


class AEAttention(nn.Module):
    """Attention over pixels with one head."""

    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels, 1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = self.norm(x)
        q, k, v = (f(y).permute(0, 2, 3, 1).reshape(n, 1, h * w, c) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(y.reshape(n, h, w, c).permute(0, 3, 1, 2))


class Mid(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = AEBlock(channels, channels), AEAttention(channels), AEBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class HalfPadded(nn.Module):
    """Halving convolution, padded on the right and at the bottom only."""

    def __init__(self, channels):
        super().__init__()
        self.conv = conv3(channels, channels, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    def __init__(self, blocks, ci, co, **resample):
        super().__init__()
        self.block = nn.ModuleList(AEBlock(ci if i == 0 else co, co) for i in range(blocks))
        self.after = list(resample)
        for name, module in resample.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        for name in self.after:
            x = getattr(self, name)(x)
        return x


class Encoder(nn.Module):
    def __init__(self, s: Sizes):
        super().__init__()
        ch, last = s.ae_channels, len(s.ae_mult) - 1
        self.conv_in = conv3(3, ch)
        self.down = nn.ModuleList()
        for i, mult in enumerate(s.ae_mult):
            co = mult * s.ae_channels
            self.down.append(Level(s.num_res_blocks, ch, co, **({"downsample": HalfPadded(co)} if i < last else {})))
            ch = co
        self.mid, self.norm_out, self.conv_out = Mid(ch), norm(ch, 1e-6), conv3(ch, s.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self, s: Sizes):
        super().__init__()
        last = len(s.ae_mult) - 1
        ch = s.ae_channels * s.ae_mult[-1]
        self.conv_in, self.mid = conv3(s.latent_channels, ch), Mid(ch)
        levels = []
        for i, mult in reversed(list(enumerate(s.ae_mult))):
            co = mult * s.ae_channels
            levels.insert(0, Level(s.num_res_blocks + 1, ch, co, **({"upsample": Upsample(co)} if i > 0 else {})))
            ch = co
        self.up = nn.ModuleList(levels)  # by resolution, the full one first
        self.norm_out, self.conv_out = norm(ch, 1e-6), conv3(ch, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Codebook(nn.Module):
    def __init__(self, codes, dim):
        super().__init__()
        self.embedding = nn.Embedding(codes, dim)

    def forward(self, z: Tensor) -> Tensor:
        """Replaces every vector of z (N,C,H,W) by the nearest code; the first of equals."""
        n, c, h, w = z.shape
        flat, e = z.permute(0, 2, 3, 1).reshape(-1, c), self.embedding.weight
        d = torch.addmm(flat.square().sum(1, keepdim=True) + e.square().sum(1), flat, e.t(), alpha=-2)
        q = self.embedding(d.argmin(1))
        return (flat + (q - flat)).reshape(n, h, w, c).permute(0, 3, 1, 2)


class FirstStage(nn.Module):
    """The VQ autoencoder; forward decodes latents (N,C,h,w) to images (N,3,4h,4w) in about [-1,1]."""

    def __init__(self, s: Sizes, encoder=True):
        super().__init__()
        c = s.latent_channels
        if encoder:
            self.encoder, self.quant_conv = Encoder(s), nn.Conv2d(c, c, 1)
        self.decoder, self.quantize, self.post_quant_conv = Decoder(s), Codebook(s.codes, c), nn.Conv2d(c, c, 1)

    def encode(self, image: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(image))

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(self.quantize(z)))


class ClassEmbedder(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.embedding = nn.Embedding(classes, dim)


class Wrapper(nn.Module):
    def __init__(self, s: Sizes):
        super().__init__()
        self.diffusion_model = UNet(s)


class LatentDiffusion(nn.Module):
    """All parameters of a checkpoint under their names; only for writing one."""

    def __init__(self, s: Sizes):
        super().__init__()
        self.model = Wrapper(s)
        self.first_stage_model = FirstStage(s)
        self.cond_stage_model = ClassEmbedder(s.classes, s.context_dim)


def randomize(module: nn.Module, seed: int):
    """Seeded weights that keep activations near unit size and make every parameter matter."""
    g = torch.Generator().manual_seed(seed)
    norms = {id(p) for m in module.modules() if isinstance(m, (nn.GroupNorm, nn.LayerNorm)) for p in m.parameters()}
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.uniform_(-1, 1, generator=g)
            if id(p) in norms:
                p.mul_(0.5).add_(1) if name.endswith("weight") else p.mul_(0.2)
            elif "embedding" in name:
                p.mul_(math.sqrt(3))
            elif p.dim() > 1:
                p.mul_(math.sqrt(3 / p[0].numel()))
            else:
                p.mul_(0.1)
