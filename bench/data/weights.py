"""Files of weights that a network starts from: where each lies, and what is wrong where there is none."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bench.core import DataError
from bench.data.source import present

HUB_FILE = "model.safetensors"  # what a model on the Hugging Face hub calls its weights


@dataclass(frozen=True)
class Weights:
    """A file of weights in the format of safetensors, in the data folder or in the cache of the Hugging Face hub."""

    name: str  # of the file, within the folder of data sets
    megabytes: float
    hub: str = ""  # the model on the hub that has the file; empty where none has
    sha256: str = ""  # empty: not known to us, so that only names, shapes and numbers can be checked
    bundled: Path | None = None  # the file that comes with the library, where one does

    @property
    def origin(self) -> str:
        """Return what the file is, and whence, in words."""
        checksum = f"sha256 {self.sha256}" if self.sha256 else "no checksum known"
        source = f", {HUB_FILE} of {self.hub} on the Hugging Face hub" if self.hub else ""
        return f"{self.name} ({self.megabytes:g} MB, {checksum}{source})"

    def wanted(self, folder: Path) -> str:
        """Return what to do where the file is missing, in one line."""
        return f"put {self.origin} into {folder} under that name"

    def place(self, folder: Path) -> Path | None:
        """Return where the file is: with the library, in the data folder or in the hub's cache; None where nowhere."""
        for path in (self.bundled, folder / self.name):
            if path is not None and present(path):
                return path
        return self._cached()

    def find(self, folder: Path) -> Path:
        """Return where the file is, its checksum verified where it is known. Raises `DataError`."""
        path = self.place(folder)
        if path is None:
            raise DataError(f"the weights of the network are missing: {self.wanted(folder)}")
        if self.sha256 and (found := sha256sum(path)) != self.sha256:
            what = f"{path} is damaged, or another file: sha256 {found}, not {self.sha256}"
            raise DataError(f"{what}; delete it, then {self.wanted(folder)}")
        return path

    def _cached(self) -> Path | None:
        """Return the file in the cache of the hub, where timm leaves what it downloads. Asks no server."""
        if not self.hub:
            return None
        try:
            from huggingface_hub import try_to_load_from_cache
        except ImportError:
            return None
        found = try_to_load_from_cache(self.hub, HUB_FILE)
        return Path(found) if isinstance(found, str) else None


def sha256sum(path: Path) -> str:
    """Return the checksum of a file, 64 hex digits. Raises `DataError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


AUGREG_IN21K = Weights(  # Steiner et al., TMLR 2022: ViT-B/16, pre-trained on ImageNet-21k
    name="vit_base_patch16_224.augreg_in21k.safetensors",
    megabytes=410,
    hub="timm/vit_base_patch16_224.augreg_in21k",
)
