"""Every method takes a step on vision transformers, and changes nothing there but what may learn."""

import pytest
import torch

from bench.catalog.catalog import Catalog
from bench.core import Benchmark, Training
from bench.data.generated import random_task
from bench.nn import architectures
from bench.nn.architectures import vit
from bench.training.loop import Session
from bench.training.stage import TaskRecord

BUILT_IN = Catalog()
METHODS = [name for name in BUILT_IN.available("Method") if name != "hat"]  # which has no gate for attention


class Images(Benchmark):
    num_tasks, num_classes, head_bias = 2, 3, True
    name = "images"


def learn(method: str, backbone: str, side: int, samples: int) -> tuple[Session, list[TaskRecord], set[str]]:
    """Learn two tasks of random images, one step each or two. Return what has changed in the network too, by name."""
    benchmark = Images()
    benchmark.backbone, benchmark.input_shape = backbone, (3, side, side)
    torch.manual_seed(0)
    network = architectures.build(benchmark)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    cls = BUILT_IN.method(method)
    training = Training(epochs=1, batch_size=samples)
    tasks = [random_task(benchmark, t, samples, 2, 2) for t in range(2)]
    session = Session(network, cls(network, cls.Config(), torch.Generator()), tasks, training, 0)
    _, records = session.run()
    after = network.state_dict()
    assert list(after) == list(before), "updates are merged, and every layer is where it was"
    return session, records, {name for name in before if not torch.equal(before[name], after[name])}


def demand_only_projections(session: Session, changed: set[str]) -> None:
    allowed = {f"{path}.weight" for path in session.network.layers()}
    heads = {name for name in session.network.state_dict() if name.startswith("heads.")}
    assert changed <= allowed | heads
    assert changed & heads
    assert changed & allowed


@pytest.mark.parametrize("method", METHODS)
def test_a_method_changes_the_adapted_projections_and_nothing_else(method):
    session, records, changed = learn(method, "tiny_vit", 32, 8)
    demand_only_projections(session, changed)
    assert [record.epochs for record in records] == [1] * len(records)
    assert 0 < records[-1].trainable <= 2 * (6 * 2 * 96 * 96 + 2 * 97 * 3), "of TRGP, scales beside the weights"


def test_the_bound_of_ness_holds_on_every_projection():
    _, records, _ = learn("ness", "tiny_vit", 32, 8)
    report = records[1].report
    assert len(report["bound"]) > 0
    for name, bound in report["bound"].items():
        assert report["interference"][name] <= bound * (1 + 1e-4) + 1e-6, name


LARGE = [name for name in METHODS if name != "fsdgpm"]  # whose second derivatives would take too much memory here


@pytest.mark.slow
@pytest.mark.parametrize("method", LARGE)
def test_a_method_steps_on_the_transformer_of_the_papers(method, monkeypatch):
    """Every layer at its size. All blocks are alike, and what grows with the image is the number of tokens alone: one
    method learns all twelve and sees all 196 tokens, the others three and nine."""
    whole = method == "ness"
    if not whole:
        make = vit._transformer
        monkeypatch.setattr(vit, "_transformer", lambda *words, **sizes: make(*words, **{**sizes, "depth": 3}))
    session, records, changed = learn(method, "vit_base_patch16_224", 224 if whole else 48, 4)
    assert len(session.network.layers()) == (2 * 12 if whole else 2 * 3)
    demand_only_projections(session, changed)
    assert records[-1].trainable > 0
