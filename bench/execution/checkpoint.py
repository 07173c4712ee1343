"""What a cell has reached after a task, on disk, so that a killed one goes on with its next task.

It holds the weights, what the method carries, the rows of R and the records, as arrays and JSON, no pickle. No random
state is among it, for none outlives a task: every task's seeds come from the cell. Behind the archive stands the digest
of its bytes, which is looked at before anything is read out of them: a damaged header raises what it likes.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgspec
import numpy as np
import torch
from torch import Tensor

from bench import files
from bench.core import Cell
from bench.execution import store
from bench.execution.decoding import Object, TaskForm
from bench.training.loop import Row, Session

UNFIT = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, msgspec.ValidationError)
Arrays = dict[str, np.ndarray]


class About(TypedDict):
    """What stands beside the arrays."""

    facts: Object
    rows: list[list[float | None]]
    records: list[TaskForm]
    seconds: float
    devices: dict[str, str]  # where each tensor of the method was
    bfloat16: list[str]  # the arrays that are the bits of such numbers, for which numpy has no type


class Reached(NamedTuple):
    """What a checkpoint brought back beside weights and memory."""

    rows: list[Row]
    records: list[dict[str, Any]]
    seconds: float


class Checkpoint:
    """The checkpoint of one cell, in `folder`.

    `facts` are what a number depends on: where they differ, or anything in it does not fit, it is not used. A disk that
    is full or not writable costs the checkpoint, never the cell. `trouble` then says why.
    """

    def __init__(self, folder: Path, cell: Cell, facts: dict[str, Any]) -> None:
        self.path = store.checkpoint(folder, cell)
        self.facts = json.loads(json.dumps({**facts, "cell": cell.key}))
        self.trouble = ""

    def save(self, session: Session, rows: list[Row], records: list[dict[str, Any]], seconds: float) -> None:
        """Replace what there is by the state after task len(rows) - 1; `seconds` is what it took so far."""
        state = session.method.state()
        tensors = {f"network.{name}": tensor for name, tensor in session.network.state_dict().items()}
        tensors |= {f"method.{name}": tensor for name, tensor in state.items()}
        arrays = {name: _array(tensor) for name, tensor in tensors.items()}
        about = {"facts": self.facts, "rows": rows, "records": records, "seconds": seconds}
        about["devices"] = {name: tensor.device.type for name, tensor in state.items()}
        about["bfloat16"] = [name for name, tensor in tensors.items() if tensor.dtype == torch.bfloat16]
        try:
            files.write_bytes(self.path, packed(about, arrays))
        except OSError as error:
            self.trouble = f"no checkpoint: {error.strerror}"

    def load(self, session: Session) -> Reached:
        """Bring a session to the state that was saved. Return what it had reached; nothing, and the session as it was,
        where there is no checkpoint, or none that fits."""
        try:
            files.demand_file(self.path)
            about, arrays = unpacked(self.path.read_bytes())
            _demand_fit(about, arrays, session)
        except FileNotFoundError:
            return Reached([], [], 0.0)
        except UNFIT:
            self.trouble = "a checkpoint that is damaged, or of an older version, was not used"
            return Reached([], [], 0.0)
        if about["facts"] != self.facts:
            self.trouble = "a checkpoint of other code, or from another machine or cell, was not used"
            return Reached([], [], 0.0)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        tensors |= {name: tensors[name].view(torch.bfloat16) for name in about["bfloat16"]}
        session.network.load_state_dict(_part(tensors, "network."))
        state = _part(tensors, "method.")
        places = {session.device.type: session.device}  # of several GPUs, the session's
        kinds = about["devices"]
        session.method.load_state({n: tensor.to(places.get(kinds[n], kinds[n])) for n, tensor in state.items()})
        return Reached(about["rows"], about["records"], about["seconds"])  # type: ignore[arg-type]

    def remove(self) -> None:
        """Delete the file, if the folder lets it go: the cell is done."""
        files.remove(self.path)


def _demand_fit(about: About, arrays: Arrays, session: Session) -> None:
    """Raise ValueError unless a checkpoint is one of such a network and such a stream."""
    network = {f"network.{name}": tensor for name, tensor in session.network.state_dict().items()}
    names = {*network, *(f"method.{name}" for name in about["devices"])}
    if set(arrays) != names:
        raise ValueError("other arrays than the network and the method have")
    for name, tensor in network.items():
        own = _array(tensor)
        if (own.shape, own.dtype) != (arrays[name].shape, arrays[name].dtype):
            raise ValueError(f"{name} has another shape or type")
    for name in about["bfloat16"]:
        if name not in arrays or arrays[name].dtype != np.int16:
            raise ValueError(f"{name} is not the bits of bfloat16")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    if not 0 < len(about["rows"]) == len(about["records"]) < len(session.tasks):
        raise ValueError("another number of rows than of records, or too many")


def packed(about: Object, arrays: Arrays) -> bytes:
    """Return the content of a checkpoint: an archive, and the digest of its bytes."""
    file = io.BytesIO()
    np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
    file.write(hashlib.sha256(file.getvalue()).digest())
    return file.getvalue()


def unpacked(content: bytes) -> tuple[About, Arrays]:
    """Return what was `packed`. Raises one of UNFIT where it is something else."""
    size = hashlib.sha256().digest_size
    if hashlib.sha256(memoryview(content)[:-size]).digest() != content[-size:]:
        raise ValueError("these are not the bytes that were saved")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:  # what stands behind an archive is passed over
        arrays = {name: file[name] for name in file.files}
    about = json.loads(arrays.pop("about").tobytes())
    msgspec.convert(about, About, strict=True)
    return about, arrays


def _array(tensor: Tensor) -> np.ndarray:
    """Return a tensor as an array, or, where numpy has no such type, its bits."""
    tensor = tensor.detach().cpu()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
