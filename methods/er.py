"""ER: experience replay with a reservoir (Chaudhry et al. 2019, On tiny episodic memories, arXiv 1902.10486).

A buffer of M samples holds a random sample of the stream. Every step trains on the batch and on as many samples drawn
from the buffer, one mean cross-entropy over both, each sample with the head of its own task; then the batch is offered
to the buffer. Heads of earlier tasks go on learning.

Paper -> code: M capacity, memory[samples]; size of the replayed batch replay. Departures: with several epochs a task,
samples are offered in the first one alone, so that each counts once; the rule of the reservoir is Vitter's, and the
released code's, which prefers late samples, under "published".
"""

from dataclasses import dataclass
from typing import Literal

import torch

from bench.nn.replay import draw, integer_below, put, reservoir_slots
from bench.search_space import Integers
from bench.settings import setting
from bench.training.data import Batch, tasks_of
from bench.training.method import Method, OldData


class ER(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        capacity: int = setting(200, "M, samples of all tasks together", at_least=1, search=Integers(10, 5000))
        replay: int = setting(0, "samples drawn for a step; 0: as many as a batch has", at_least=0)
        rule: Literal["uniform", "recent"] = setting("uniform", "of the reservoir: Vitter's, or the released code's")

    protocols = {"published": {"rule": "recent"}, "class-il": {"logits": "seen"}}
    trains_old_heads = True
    by_default = False
    config: Config

    @classmethod
    def old_data(cls, config: Config) -> OldData:
        return "stored"

    def before_step(self, batch: Batch) -> Batch:
        samples = self.memory.get("samples")
        if not samples:
            return batch
        old = draw(samples, self.config.replay or len(batch.y), self.generator)
        x, y = torch.cat([batch.x, old["x"]]), torch.cat([batch.y, old["y"]])
        return batch._replace(x=x, y=y, task=torch.cat([tasks_of(batch), old["task"]]))

    def after_step(self, batch: Batch) -> None:
        if batch.epoch > 0:
            return
        seen, count = int(self.memory.get("seen", 0)), len(batch.y)
        slots = reservoir_slots(seen, count, self.config.capacity, integer_below(self.generator), self.config.rule)
        new = {"x": batch.x, "y": batch.y, "task": tasks_of(batch)}
        self.memory["samples"] = put(self.memory.get("samples", {}), new, slots)
        self.memory["seen"] = torch.tensor(seen + count)
