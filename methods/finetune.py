"""Fine-tuning: train on each task in turn, protect nothing (the lower bound)."""

from bench.training.method import Method


class FineTune(Method):
    """Every hook is empty."""

    protocols = {"class-il": {"logits": "seen"}}
