"""Train the weights of the tiny vision transformer, once: python -m bench.tools.pretrain FOLDER

A transformer of 0.46 million parameters learns the first fifty of CIFAR-100's classes by their training images, in less
than an hour; the other fifty are the stream of `split_cifar100_tiny_vit`. Labels are in alphabetical order, which says
nothing of what images show, so the first fifty are as good a half as any, and the stream keeps its natural order.

Most epochs see half of the tokens of an image, drawn anew each time, which costs half and keeps so few images from
being learned by heart (PatchDropout, Liu et al., WACV 2023); the last ones see all. AdamW, a cosine with a warm-up,
label smoothing, flips and shifts. Every epoch draws from generators seeded by its number, and ends with a checkpoint: a
run that was stopped goes on from there, to the same bits. FOLDER gets the checkpoint, the weights in half precision
under timm's names, the head of the fifty classes among them, and a manifest of how they came to be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors.torch import save
from timm.layers import set_fused_attn
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from bench import files
from bench.core import Split
from bench.data.cifar import CIFAR100

SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 4, "embed_dim": 96, "depth": 6, "num_heads": 3, "mlp_ratio": 2}
MEAN = STD = 0.5  # of pixels in [0, 1], as timm has it for vision transformers


@dataclass(frozen=True)
class Recipe:
    """How the weights are trained."""

    classes: int = 50  # the first so many
    seed: int = 0
    epochs: int = 40
    whole_epochs: int = 6  # the last ones, which see every token
    dropped: float = 0.5  # share of the tokens that the others leave out
    batch_size: int = 128
    lr: float = 2e-3
    warmup: int = 3  # epochs
    weight_decay: float = 0.05
    smoothing: float = 0.1
    padding: int = 4  # pixels by which an image may be shifted

    def rate(self, progress: float) -> float:
        """Return the learning rate after `progress` epochs: up in a line, then down along half a cosine."""
        if progress < self.warmup:
            return self.lr * progress / self.warmup
        done = (progress - self.warmup) / (self.epochs - self.warmup)
        return self.lr * (1 + math.cos(math.pi * done)) / 2


def images_of(split: Split, classes: int) -> tuple[Tensor, Tensor]:
    """Return the images, uint8 (n, 3, 32, 32), and labels (n,) of the first classes."""
    own = split.y < classes
    images = torch.from_numpy(split.x[own]).permute(0, 3, 1, 2).contiguous()
    return images, torch.from_numpy(split.y[own])


def scaled(images: Tensor) -> Tensor:
    """Return images, uint8 (n, 3, 32, 32), as the network takes them: float32 in [-1, 1]."""
    return (images.float() / 255 - MEAN) / STD


def flipped_and_shifted(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Return images (n, c, h, w), each flipped by a coin and shifted by up to `padding` pixels, black coming in."""
    n, _, height, width = images.shape
    flip = torch.rand(n, generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    padded = F.pad(images, (padding,) * 4)
    top, left = torch.randint(2 * padding + 1, (2, n), generator=generator)
    rows = top[:, None] + torch.arange(height)  # (n, h)
    columns = left[:, None] + torch.arange(width)  # (n, w)
    samples = torch.arange(n)[:, None, None]
    chosen = padded.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c)
    return chosen.permute(0, 3, 1, 2)


def new_model(recipe: Recipe) -> VisionTransformer:
    """Return the network with a head for all classes: (n, 3, 32, 32) -> (n, classes)."""
    torch.manual_seed(recipe.seed)
    return VisionTransformer(**SIZES, num_classes=recipe.classes, patch_drop_rate=recipe.dropped)


def new_optimizer(model: VisionTransformer, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW, which decays matrices and leaves biases, norms and embeddings alone."""
    kept = model.no_weight_decay()
    decayed = [p for name, p in model.named_parameters() if p.dim() > 1 and name not in kept]
    others = [p for name, p in model.named_parameters() if p.dim() == 1 or name in kept]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, recipe.lr, weight_decay=recipe.weight_decay)


def logits_of(model: VisionTransformer, images: Tensor) -> Tensor:
    """Return the logits (n, classes) of images, uint8 (n, 3, 32, 32), computed in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(scaled(images))
    return cast(Tensor, logits.float())


def train_epoch(
    model: VisionTransformer, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, recipe: Recipe, epoch: int
) -> tuple[float, float]:
    """Train one epoch, and return the mean loss and the accuracy of its batches as they were seen."""
    torch.manual_seed(recipe.seed + 1000 * (epoch + 1))  # which tokens are dropped
    generator = torch.Generator().manual_seed(recipe.seed + 1000 * (epoch + 1))
    whole = epoch >= recipe.epochs - recipe.whole_epochs
    model.patch_drop.prob = 0.0 if whole else recipe.dropped
    model.train()
    batches = torch.randperm(len(x), generator=generator).split(recipe.batch_size)
    loss_sum = hits = 0.0
    for step, chosen in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(epoch + (step + 1) / len(batches))
        logits = logits_of(model, flipped_and_shifted(x[chosen], recipe.padding, generator))
        loss = F.cross_entropy(logits, y[chosen], label_smoothing=recipe.smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += float(loss.detach()) * len(chosen)
        hits += float((logits.argmax(1) == y[chosen]).sum())
    return loss_sum / len(x), hits / len(x)


@torch.no_grad()
def share_right(model: VisionTransformer, x: Tensor, y: Tensor) -> float:
    """Return the accuracy in [0, 1], of float32 and every token."""
    model.eval()
    found = torch.cat([model(scaled(some)).argmax(1) for some in x.split(500)])
    return float((found == y).float().mean())


def trained_epochs(model: VisionTransformer, recipe: Recipe, x: Tensor, y: Tensor, checkpoint: Path) -> Iterator[str]:
    """Train from the checkpoint on, or from the start, and yield a line about every epoch."""
    optimizer = new_optimizer(model, recipe)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epochs"]
    for epoch in range(first, recipe.epochs):
        began = time.perf_counter()
        loss, accuracy = train_epoch(model, optimizer, x, y, recipe, epoch)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epochs": epoch + 1}
        with files.replacing(checkpoint) as file:
            torch.save(state, file)
        yield f"epoch {epoch + 1:3d}: loss {loss:.4f}, accuracy {accuracy:.4f}, {time.perf_counter() - began:.0f} s"


def write_weights(model: VisionTransformer, recipe: Recipe, accuracies: dict[str, float], folder: Path) -> str:
    """Write the weights in half precision, and their manifest, and return what is said of them in a line."""
    state = {name: p.half().contiguous() for name, p in model.state_dict().items()}
    content = save(state)
    manifest = {
        "weights": "tiny_vit.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "parameters": sum(p.numel() for p in state.values()),
        "architecture": SIZES,
        "data": f"CIFAR-100 (Krizhevsky 2009), the training images of labels 0 to {recipe.classes - 1}",
        "mean": MEAN,
        "std": STD,
        "recipe": asdict(recipe),
        "accuracy": accuracies,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "timm": timm.__version__},
        "command": "python -m bench.tools.pretrain",
    }
    files.write_bytes(folder / "tiny_vit.safetensors", content)
    files.write_text(folder / "tiny_vit.json", json.dumps(manifest, indent=1) + "\n")
    return f"{len(content):,} bytes, sha256 {manifest['sha256']}; accuracy {accuracies}"


def main() -> None:
    """Train, or go on training, and write the weights."""
    parser = argparse.ArgumentParser(description="Train the weights of the tiny vision transformer.")
    parser.add_argument("folder", type=Path, help="where the checkpoint, the weights and their manifest go")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder of data sets")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--lr", type=float, default=Recipe.lr)
    given = parser.parse_args()
    recipe = Recipe(epochs=given.epochs, lr=given.lr)
    CIFAR100.prepare(given.data)
    train, test = CIFAR100.load_prepared(given.data)
    x, y = images_of(train, recipe.classes)
    set_fused_attn(False)  # torch's own, in bfloat16 on a CPU, takes five times as long
    model = new_model(recipe)
    for line in trained_epochs(model, recipe, x, y, given.folder / "checkpoint.pt"):
        print(line, flush=True)
    model.half().float()  # as it is shipped
    shown = {"train": (x, y), "test": images_of(test, recipe.classes)}
    accuracies = {name: round(share_right(model, *split), 4) for name, split in shown.items()}
    print(write_weights(model, recipe, accuracies, given.folder))


if __name__ == "__main__":
    main()
