"""Weights of a pre-trained network: from a file, and never from one of another network."""

import json
import re
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.core import Benchmark, DataError
from bench.data.inventory import data_report
from bench.data.weights import Weights, sha256sum
from bench.execution.session import session_of
from bench.nn.architectures import build, tiny_vit, vit
from bench.nn.architectures.weights import load_weights

SHAPE = (3, 32, 32)
COMMIT = "0" * 40


def state_of_timm(seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights of the tiny transformer under timm's names, drawn anew: none is what a network starts with."""
    torch.manual_seed(seed)
    shapes = vit.fused(tiny_vit(SHAPE).state_dict())
    return {name: torch.randn(tensor.shape) for name, tensor in shapes.items()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_file(state_of_timm(), path)
    return path


def test_a_network_gets_the_weights_in_the_file(file):
    backbone = tiny_vit(SHAPE)
    load_weights(backbone, file)
    state = load_file(file)
    found = vit.fused(backbone.state_dict())
    assert list(found) == list(vit.fused(tiny_vit(SHAPE).state_dict()))
    assert all(torch.equal(found[name], state[name]) for name in found)


def test_half_precision_and_a_classifier_do_not_disturb(tmp_path):
    state = {name: tensor.half() for name, tensor in state_of_timm().items()}
    save_file(state | {"head.weight": torch.zeros(50, 96), "head.bias": torch.zeros(50)}, tmp_path / "half")
    backbone = tiny_vit(SHAPE)
    load_weights(backbone, tmp_path / "half")
    found = vit.fused(backbone.state_dict())
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    torch.testing.assert_close(found["norm.weight"], state["norm.weight"].float())


def wider(state):
    return state | {"blocks.2.mlp.fc1.weight": torch.zeros(384, 96), "blocks.3.mlp.fc1.weight": torch.zeros(384, 96)}


def without(state):
    del state["blocks.5.norm2.bias"]
    return state


MISFITS = [
    (wider, "another network: its blocks.2.mlp.fc1.weight is (384, 96), not (192, 96)"),
    (without, "another network: it lacks blocks.5.norm2.bias (96,)"),
    (lambda state: state | {"dist_token": torch.zeros(1, 1, 96)}, "another network: dist_token is none of this one's"),
    (
        lambda state: state | {"cls_token": torch.zeros(1, 1, 96, dtype=torch.int32)},
        "cls_token is of type I32, not F32",
    ),
    (
        lambda state: state | {"pos_embed": torch.full((1, 65, 96), torch.nan)},
        "damaged: its pos_embed holds what is not",
    ),
]


@pytest.mark.parametrize(("change", "message"), MISFITS)
def test_a_file_of_another_network_is_told_by_its_first_misfit(change, message, tmp_path):
    path = tmp_path / "other.safetensors"
    save_file(change(state_of_timm()), path)
    backbone = tiny_vit(SHAPE)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load_weights(backbone, path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())


def header(tensors: object) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


HOSTILE = {
    "empty": b"",
    "text": b"not weights at all, but some lines of text",
    "a head without end": struct.pack("<Q", 2**63) + b"{}",
    "no json": struct.pack("<Q", 4) + b"}}}}",
    "a list": header([1, 2]),
    "more than the file": header({"cls_token": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
    "a shape that overflows": header({"cls_token": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}),
    "a pickle": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_told_in_a_line(content, tmp_path):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"hostile\.safetensors cannot be read") as caught:
        load_weights(tiny_vit(SHAPE), path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_and_a_folder_in_its_place_are_told_in_a_line(file, tmp_path):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    for path in (file, tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            load_weights(tiny_vit(SHAPE), path)


class Pretrained(Benchmark):
    name, num_tasks, num_classes, input_shape, backbone = "pretrained", 2, 3, SHAPE, "tiny_vit"
    file = Weights("tiny.safetensors", 1.8, hub="someone/tiny_vit.for_this_test")

    def weights(self) -> Weights:
        return self.file


def test_missing_weights_are_told_with_their_name_size_and_place(tmp_path):
    wanted = "tiny.safetensors (1.8 MB, no checksum known, model.safetensors of someone/tiny_vit.for_this_test"
    with pytest.raises(DataError, match=re.escape(wanted)) as caught:
        Pretrained.file.find(tmp_path)
    assert f"into {tmp_path}" in str(caught.value)
    lines = list(data_report([Pretrained()], tmp_path, prepare=False))
    assert lines[0] == ("weights tiny.safetensors, for pretrained: missing", True)
    assert wanted in lines[1][0]


def test_weights_are_found_in_the_cache_of_the_hub(file, tmp_path, monkeypatch):
    cached = tmp_path / "models--someone--tiny_vit.for_this_test" / "snapshots" / COMMIT
    cached.mkdir(parents=True)
    refs = cached.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    (cached / "model.safetensors").write_bytes(file.read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert Pretrained.file.find(tmp_path / "nothing").samefile(cached / "model.safetensors")


def test_a_checksum_that_is_known_is_held_against_the_file(file):
    right = Weights(file.name, 1.8, sha256=sha256sum(file))
    assert right.find(file.parent) == file
    wrong = Weights(file.name, 1.8, sha256="0" * 64)
    with pytest.raises(DataError, match="is damaged, or another file: sha256"):
        wrong.find(file.parent)
    benchmark = Pretrained()
    benchmark.file = wrong
    assert ("weights tiny.safetensors, for pretrained: corrupt", False) in data_report([benchmark], file.parent, False)


def test_every_head_is_new_and_the_backbone_from_the_file_whatever_the_seed(file):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(build(Pretrained(), weights=file).state_dict())
    state = vit.separated(load_file(file))
    assert all(torch.equal(own[f"backbone.{name}"], state[name]) for own in found for name in state)
    assert not torch.equal(found[0]["heads.0.weight"], found[1]["heads.0.weight"])


def test_a_cell_never_starts_from_random_weights_in_silence(file, tmp_path, monkeypatch):
    from bench.catalog.catalog import Catalog
    from bench.catalog.plan import Request
    from bench.data.generated import random_task

    catalog = Catalog()
    cells, _ = catalog.plan(Request(["finetune"], ["toy"], [0]))
    monkeypatch.setattr(Catalog, "benchmark", lambda *args: Pretrained())
    tasks = [random_task(Pretrained(), t, 4, test=2) for t in range(2)]
    with pytest.raises(DataError, match="weights of the network are missing"):
        session_of(cells[0], catalog, tmp_path / "nothing", tasks=tasks)
    session = session_of(cells[0], catalog, file.parent, tasks=tasks)
    token = session.network.state_dict()["backbone.cls_token"]
    assert torch.equal(token, load_file(file)["cls_token"])
