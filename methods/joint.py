"""Joint training on all tasks at once: the multitask upper bound (Caruana, Machine Learning 1997).

Batches come from one task each, tasks interleaved at random in proportion to their size; the validation loss is the
mean over all tasks, in evaluation mode. The authors of DFGP's extension train task after task within an epoch and
validate with dropout active; both are corrected here. The budget is the same number of epochs, over the union.
"""

from bench.training.method import Method


class Joint(Method):
    """The trainer does it all: one stage holds every task."""

    protocols = {"class-il": {"logits": "seen"}}
    stage = "all"
