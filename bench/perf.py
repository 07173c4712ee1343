"""What methods cost: seconds per epoch of a later task, against fine-tuning and against a bare PyTorch loop.

    python -m bench.perf [--methods A,B] [--data DIR] [--samples 4750] [--rounds 5] [--threads 2] [--out FILE]

Every arm is brought to its second task on 10-split CIFAR-100 (random images where the data is missing: the ranks of
NESS are then not the real ones). Then each trains an epoch per round, arms in turn, so that a busy machine slows them
alike; ratios are taken within a round. Prints a table and writes the numbers as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn import functional as F

from bench import backbones, grid, registry
from bench.config import build
from bench.core import Benchmark, DataError, Split, Task, Training
from bench.method import TrainingData
from bench.seeding import derive
from bench.trainer import make_optimizer, run_stream, train_epoch

BENCHMARK = "split_cifar100"


def two_tasks(benchmark: Benchmark, data: Path, samples: int) -> tuple[list[Task], str]:
    """The first two tasks, cut to `samples` training images, and what they are made of."""
    try:
        tasks, source = benchmark.stream(1, data)[:2], "CIFAR-100"
    except DataError:
        tasks, source = [_random_task(benchmark, t) for t in range(2)], "random images"
    return [
        Task(t.index, t.classes, Split(t.train.x[:samples], t.train.y[:samples]), t.validation, t.test) for t in tasks
    ], source


def _random_task(benchmark: Benchmark, t: int) -> Task:
    generator = np.random.default_rng(t)

    def split(n: int) -> Split:
        x = generator.normal(size=(n, *benchmark.input_shape)).astype(np.float32)
        return Split(x, generator.integers(0, benchmark.num_classes, n))

    return Task(t, (), split(4750), split(250), split(64))


def arm(name: str, benchmark: Benchmark, tasks: list[Task]) -> tuple[Callable[[], object], dict[str, float]]:
    """A function that trains one epoch of the second task, and the seconds that its hooks took there."""
    cls = registry.get_method(name)
    training, config = grid.resolve(name, cls, registry.recipe(BENCHMARK), {"epochs": 1})
    torch.manual_seed(derive(BENCHMARK, "perf"))
    network = backbones.build(benchmark)
    method = cls(network, config)
    _, records = run_stream(network, method, tasks, training, seed=1)
    images = [(t.index, torch.from_numpy(t.train.x), torch.from_numpy(t.train.y)) for t in tasks]
    data = [TrainingData(*part, training.batch_size) for part in images]
    if method.reads_old_data(method.config):
        data[1].grant(data[:1])
    network.open([1])
    method.begin_task(1, data[1])  # once more, to stay inside the task
    optimizer = make_optimizer(method.parameters(), training)
    generator = torch.Generator().manual_seed(0)
    epoch = partial(train_epoch, network, method, optimizer, images[1:], training, generator, sharp=False)
    return epoch, records[1]["seconds"]


def bare(benchmark: Benchmark, tasks: list[Task]) -> Callable[[], object]:
    """One epoch of the loop anybody would write."""
    training = build(Training, registry.recipe(BENCHMARK)["training"], BENCHMARK)
    network = backbones.build(benchmark)
    model = nn.Sequential(network.backbone, network.head(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=training.lr)
    x, y = torch.from_numpy(tasks[1].train.x), torch.from_numpy(tasks[1].train.y)

    def epoch() -> Tensor:
        model.train()
        loss = torch.zeros(())
        for batch in torch.randperm(len(y)).split(training.batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
        return loss

    return epoch


def measure(arms: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds per epoch and round; arms take turns, and a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds + 1):
        for name, epoch in arms.items():
            start = time.perf_counter()
            epoch()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def summary(seconds: dict[str, list[float]], hooks: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Per arm: median seconds, and the median and range over rounds of its ratios to the two yardsticks."""
    rows = []
    for name, own in seconds.items():
        row: dict[str, Any] = {"arm": name, "epoch [s]": statistics.median(own)}
        for yardstick in ("finetune", "bare loop"):
            ratios = [a / b for a, b in zip(own, seconds[yardstick], strict=True)]
            row |= {f"/ {yardstick}": statistics.median(ratios), "from": min(ratios), "to": max(ratios)}
            row[f"/ {yardstick}, range"] = f"{row.pop('from'):.2f}-{row.pop('to'):.2f}"
        rows.append(row | {f"{hook} [s]": hooks.get(name, {}).get(hook) for hook in ("begin", "end")})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="finetune,ewc,gpm,ness,inflora,olora")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--samples", type=int, default=4750)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    benchmark = registry.get_benchmark(BENCHMARK)
    tasks, images = two_tasks(benchmark, args.data, args.samples)
    arms: dict[str, Callable[[], object]] = {"bare loop": bare(benchmark, tasks)}
    hooks = {}
    for name in dict.fromkeys(["finetune", *args.methods.split(",")]):
        arms[name], hooks[name] = arm(name, benchmark, tasks)
    seconds = measure(arms, args.rounds)
    rows = summary(seconds, hooks)
    facts = {"images": f"{args.samples}, {images}", "rounds": args.rounds, "threads": args.threads}
    facts["torch"] = torch.__version__
    print(tabulate(rows, headers="keys", floatfmt=".2f"))
    print(", ".join(f"{name}: {value}" for name, value in facts.items()))
    if args.out:
        args.out.write_text(json.dumps({**facts, "seconds": seconds, "summary": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
