"""Files are whole or not there."""

import os
from pathlib import Path

import pytest

from bench import files
from bench.core import UserError


def test_an_interrupted_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write_text(path, "old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for owner, step in ((os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                files.write_text(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]
    files.write_text(path, "new")
    assert path.read_text() == "new"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "results"):
        with pytest.raises(UserError, match="--out") as caught:
            files.check_writable(folder)
        assert str(folder) in str(caught.value)
    files.check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o027, 0o640), (0o002, 0o664), (0o077, 0o600)])
def test_a_new_file_has_the_permissions_of_any(tmp_path: Path, umask: int, mode: int) -> None:
    """Also in the place of an old one, and where it is written by pieces."""
    places = [tmp_path / name for name in ("new", "old", "pieces")]
    places[1].touch(0o444)
    before = os.umask(umask)
    try:
        for place in places[:2]:
            files.write_text(place, "content")
        with files.replacing(places[2]) as file:
            file.write(b"content")
    finally:
        os.umask(before)
    assert [place.stat().st_mode & 0o777 for place in places] == [mode] * 3


def test_what_is_written_by_pieces_takes_its_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with files.replacing(path) as file:
        file.write(b"one, ")
        assert not path.exists()
        file.write(b"two")
    assert path.read_bytes() == b"one, two" and list(tmp_path.iterdir()) == [path]
