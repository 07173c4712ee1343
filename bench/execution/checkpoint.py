"""What a cell has reached after a task, on disk, so that a killed one goes on with its next task: the weights, what the
method carries, the rows of R and the records. Arrays and JSON only, no pickle. No random state is among it, for none
outlives a task: every task's seeds come from the cell."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.core import Cell
from bench.data.source import UNREADABLE
from bench.execution import store
from bench.training.loop import Row, Session


class Checkpoint:
    """Of one cell, in `folder`. `facts` are what a number depends on beside the cell: where they differ, it does not
    count. A disk that is full or not writable costs the checkpoint, never the cell: `trouble` then says why."""

    def __init__(self, folder: Path, cell: Cell, facts: dict[str, Any]) -> None:
        self.path = store.checkpoint(folder, cell)
        self.facts = json.loads(json.dumps(facts))
        self.trouble = ""

    def save(self, session: Session, rows: list[Row], records: list[dict[str, Any]], seconds: float) -> None:
        """Replace what there is by the state after task len(rows) - 1; `seconds` is what it took so far."""
        state = session.method.state()
        about = {"facts": self.facts, "rows": rows, "records": records, "seconds": seconds}
        about["devices"] = {name: tensor.device.type for name, tensor in state.items()}
        arrays = {f"network.{n}": _array(t) for n, t in session.network.state_dict().items()}
        arrays |= {f"method.{n}": _array(t) for n, t in state.items()}
        file = io.BytesIO()
        np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        try:
            store.write_bytes(self.path, file.getvalue())
        except OSError as error:
            self.trouble = f"no checkpoint: {error.strerror}"

    def load(self, session: Session) -> tuple[list[Row], list[dict[str, Any]], float]:
        """Bring a session's network and method to the state that was saved, and return its rows, records and seconds;
        nothing of them where there is no checkpoint, or a damaged one, or one of other facts."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(arrays.pop("about").tobytes())
        except FileNotFoundError:
            return [], [], 0.0
        except UNREADABLE:
            self.trouble = "a damaged checkpoint was not used"
            return [], [], 0.0
        if about["facts"] != self.facts:
            return [], [], 0.0
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        session.network.load_state_dict(_part(tensors, "network."))
        state = _part(tensors, "method.")
        session.method.load_state({name: tensor.to(about["devices"][name]) for name, tensor in state.items()})
        return about["rows"], about["records"], about["seconds"]

    def remove(self) -> None:
        """The cell is done."""
        self.path.unlink(missing_ok=True)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
