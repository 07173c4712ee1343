"""O-LoRA: orthogonal subspace learning (Wang et al., Findings of EMNLP 2023, arXiv 2310.14152).

Each task trains a pair ΔW = s B A and is pushed to use other input directions than the frozen pairs before it:
L = CE + λ₁ Σ_layers Σ_entries |A_old Aᵀ| + λ₂ Σ ‖p‖₂ over the new matrices (norms, not squared).

Paper -> code: A factors.down (r, d), B factors.up (o, r), A_old memory[block], λ₁ orthogonality, λ₂ shrinkage.
A pre-trained network has a pair from the first task on, as the authors' language models. Adapted to networks trained
from scratch: the first task trains everything and has no pair, so A_1 is either the leading input directions of the
first task ("input") or nothing ("none": it is then unprotected); every Linear and Conv2d layer is adapted;
normalization is frozen after the first task. Departures: pairs are merged; no dropout; s is 1, where theirs is 4.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bench.nn.activations import input_grams
from bench.nn.adapters import Factors, attach, merge
from bench.nn.subspace import spectrum
from bench.search_space import Integers, Log
from bench.settings import setting
from bench.training.data import TrainingData
from bench.training.method import Method


class OLoRA(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        rank: int = setting(8, "r, at most a quarter of a layer's inputs", at_least=1, search=Integers(4, 64))
        scale: float = setting(1.0, "s, the paper's α/r")
        orthogonality: float = setting(0.5, "λ₁", search=Log(1e-3, 10))
        shrinkage: float = setting(0.0, "λ₂")
        a1: Literal["input", "none"] = setting("input", "what stands for the pair of a first task that has none")
        a1_rank: int = setting(0, "rows of A_1; 0: rank", at_least=0)

    config: Config

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.factors: dict[str, Factors] = {}
        if task > 0 or self.network.pretrained:
            downs = {name: self._fresh(block.weight) for name, block in self.network.blocks().items()}
            self.factors = attach(self.network, downs, self.config.scale, train_down=True)

    def penalty(self) -> Tensor | float:
        terms = [torch.zeros(())]
        for name, (up, down) in self.factors.items():
            if name in self.memory:
                terms.append(self.config.orthogonality * (self.memory[name].to(down) @ down.T).abs().sum())
            if self.config.shrinkage:
                terms.append(self.config.shrinkage * (up.norm() + down.norm()))
        return sum(terms[1:], start=terms[0].to(terms[-1].device))

    def end_task(self, task: int, data: TrainingData) -> None:
        merge(self.network)
        if task == 0 and self.config.a1 == "input" and not self.network.pretrained:
            for name, gram in input_grams(self.network, data, task).items():
                rank = self.config.a1_rank or self._rank(len(gram))
                self.memory[name] = spectrum(gram).vectors.T[:rank].float()
        for name, (_, down) in self.factors.items():
            old = self.memory.get(name, down.detach()[:0])
            self.memory[name] = torch.cat([old, down.detach()])

    def _rank(self, d: int) -> int:
        return min(self.config.rank, max(d // 4, 1))

    def _fresh(self, weight: Tensor) -> Tensor:
        """A new A (r, d), Kaiming-uniform as LoRA has it."""
        down = torch.empty(self._rank(weight.shape[1]), weight.shape[1])
        return nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=self.generator).to(weight)
