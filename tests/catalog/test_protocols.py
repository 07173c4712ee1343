"""Two protocols and variants of methods: what they change, and that a result says which it is."""

from pathlib import Path

import pytest
import torch
from driving import frozen_network

from bench.catalog import plan
from bench.catalog.catalog import Catalog
from bench.catalog.changes import Today
from bench.core import PROTOCOLS, UserError
from bench.execution import runner
from bench.nn import architectures, normalization
from bench.seeding import derive
from bench.training import step
from bench.training.data import Batch
from bench.training.method import Method

METHODS = list(Catalog().available("Method"))


def cells(method: str, benchmark: str = "toy", protocols=("published",), **settings):
    return Catalog().plan(plan.Request([method], [benchmark], [0], 1, settings, protocols))[0]


def test_protocols_set_what_decides_numbers():
    [published, sound] = cells("gpm", protocols=list(PROTOCOLS))
    assert (published.config["first_rule"], sound.config["first_rule"]) == ("below", "reach")
    assert (published.training["bn_mode"], sound.training["bn_mode"]) == ("batch", "running-frozen")
    assert (published.training["eval_order"], sound.training["eval_order"]) == ("shuffled", "fixed")
    assert published.key != sound.key and published.overrides.keys() == sound.overrides.keys() == {"epochs"}


def test_a_user_setting_stands_above_the_protocol():
    [sound] = cells("gpm", protocols=["sound"], gpm={"first_rule": "below", "bn_mode": "batch"})
    assert sound.config["first_rule"] == "below" and sound.training["bn_mode"] == "batch"
    assert sound.overrides["first_rule"] == ["reach", "below"]


def test_every_released_value_of_ness_is_in_the_published_cifar_recipe():
    [cell] = cells("ness", "split_cifar100")
    assert cell.config == {
        "eps": 1e-3, "threshold": "nuclear", "memory": "data", "nan_policy": "freeze-layer", "sources": "all"
    }  # fmt: skip
    assert [cell.training[k] for k in ("lr", "momentum", "weight_decay", "sam")] == [0.005, 0.9, 1e-4, "none"]


def test_a_variant_is_its_method_with_settings_of_its_own():
    [published, sound] = cells("ness+sam", "split_cifar100", list(PROTOCOLS))
    assert (published.training["sam"], sound.training["sam"]) == ("first", "all")
    assert published.training["momentum"] == 0 and published.training["weight_decay"] == 1e-4
    plain = cells("ness", "split_cifar100")[0].source
    assert {kind: published.source[kind] for kind in ("method", "benchmark")} == {
        k: plain[k] for k in ("method", "benchmark")
    }
    assert published.source["recipe"] != plain["recipe"]
    assert "ness+sam" in Catalog().variants() and published.path.parent.name == "ness+sam"


def test_a_variant_needs_a_table_in_the_recipe():
    _, unsupported = Catalog().plan(plan.Request(["ness+sam"], ["toy"], [0]))
    assert "no table for ness+sam" in unsupported["ness+sam", "toy"]


def test_an_unknown_variant_is_a_wrong_request(command):
    answer = command("--methods", "ness+same", "--dry-run")
    assert answer.code == 2 and "did you mean 'ness+sam'?" in answer.err


def test_an_unknown_protocol_is_a_wrong_request(command):
    answer = command("--protocol", "publisched", "--dry-run")
    assert answer.code == 2 and "did you mean 'published'?" in answer.err


OPTIONED = '''"""A stream with an option."""
from dataclasses import dataclass

from bench.core import Benchmark, Split, Task
import numpy as np


class Optioned(Benchmark):
    @dataclass(frozen=True)
    class Config:
        flip: bool = False  # the labels

    protocols = {"published": {"flip": True}}
    num_tasks, num_classes, input_shape, backbone = 1, 2, (1, 6, 6), "convnet"

    def stream(self, seed, data):
        x = np.random.default_rng(seed).normal(size=(40, 1, 6, 6)).astype(np.float32)
        y = (x.mean((1, 2, 3)) > 0).astype(np.int64)
        split = Split(x, 1 - y if self.config.flip else y)
        return [Task(0, ("a", "b"), split, split, split)]
'''


def test_options_of_a_benchmark_follow_the_protocol_and_the_user(tmp_path: Path):
    path = tmp_path / "optioned.py"
    path.write_text(OPTIONED)
    request = plan.Request(["finetune"], ["optioned"], [0], 1, {}, list(PROTOCOLS))
    published, sound = Catalog.of([path]).plan(request)[0]
    assert (published.options, sound.options) == ({"flip": True}, {"flip": False})
    results = [runner.run_cell(cell, runner.Resources(catalog=Catalog.of((path,)))) for cell in (published, sound)]
    assert results[0].environment["data"] != results[1].environment["data"]
    changed = plan.Request(["finetune"], ["optioned"], [0], 1, {"optioned": {"flip": False}})
    [cell] = Catalog.of([path]).plan(changed)[0]
    assert cell.options == {"flip": False} and cell.overrides["optioned.flip"] == [True, False]
    assert Today(Catalog.of([path])).changes(cell) == ()
    with pytest.raises(UserError, match="flip"):
        Catalog.of([path]).plan(plan.Request(["finetune"], ["optioned"], [0], 1, {"optioned": {"flop": 1}}))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_every_method_runs_under_both_protocols(method: str, protocol: str):
    [cell] = cells(method, protocols=[protocol])
    result = runner.run_cell(cell, runner.Resources())
    assert result.error is None and result.cell.protocol == protocol


def test_running_statistics_freeze_after_the_first_task():
    network = frozen_network()
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(derive("x")))
    norm = network.get_submodule("backbone.bn1")
    before = norm.running_mean.clone()
    network.train()(x, 0)
    learnt = norm.running_mean.clone()
    assert not torch.equal(before, learnt)
    network.statistics_frozen = True
    network.train()(x, 0)
    assert torch.equal(norm.running_mean, learnt)


def test_perturbed_weights_leave_no_trace_in_running_statistics():
    """SAM's second pass is at weights that nobody keeps: statistics move once a step."""
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(derive("x")))
    y = torch.arange(8) % 10
    seen = []
    for rho in (0.0, 0.05):
        network = frozen_network().train()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        torch.manual_seed(0)
        step.training_step(Method(network), optimizer, Batch(x, y, 0), rho)
        seen.append(network.get_submodule("backbone.bn1").running_mean.clone())
        assert network.get_submodule("backbone.bn1").momentum == 0.1
    assert torch.equal(*seen)


def test_running_statistics_are_those_that_evaluation_meets():
    """Of the task without dropout: in evaluation, normalised training data has mean 0 and variance 1."""
    network = frozen_network()
    x = 3 + 2 * torch.randn(128, 3, 32, 32, generator=torch.Generator().manual_seed(derive("x")))
    network.train()(x, 0)  # behind dropout, as in training
    normalization.settle_statistics(network, network, [(0, x, torch.zeros(128, dtype=torch.long))], 64)
    seen: dict[str, torch.Tensor] = {}
    for name in ("bn1", "bn5"):
        layer = network.get_submodule(f"backbone.{name}")
        layer.register_forward_hook(lambda m, _, out, name=name: seen.update({name: out.detach()}))
        assert layer.momentum == 0.1
    network.eval()(x, 0)
    assert not network.training
    assert list(seen) == ["bn1", "bn5"]
    for out in seen.values():
        assert abs(float(out.mean())) < 0.02 and abs(float(out.var()) - 1) < 0.1


def test_with_running_statistics_an_answer_does_not_depend_on_the_company_of_an_image():
    network = frozen_network().eval()
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(derive("x")))
    assert torch.allclose(network(x, 0)[:3], network(x[:3], 0), atol=1e-5)
    batch = architectures.build(Catalog().benchmark("split_cifar100")).eval()
    assert not torch.allclose(batch(x, 0)[:3], batch(x[:3], 0), atol=1e-2)


def test_tables_name_the_protocol(command, tmp_path: Path):
    words = ("--bench", "toy", "--methods", "gpm", "--seeds", "0", "--epochs", "1", "--out", tmp_path)
    answer = command(*words, "--protocol", "all")
    assert answer.code == 0
    assert "toy (1 epoch, sound)" in answer.out
    assert "Protocol published: as the released code" in answer.out and "Protocol sound: the defects" in answer.out
    command(*words, "--protocol", "sound")
    names = {path.stem.rpartition("-")[0] for path in (tmp_path / "tables").glob("*.md")}
    assert names == {"toy-1epochs-published-sound", "toy-1epochs-sound"}, "no table stands in the place of another"
    one = command("table", "--out", tmp_path, "--protocol", "sound")
    assert "sound" in one.out and "Protocol published" not in one.out
