"""Checkpoints made by an enemy: refused by name, never run."""

from __future__ import annotations

import builtins
import collections
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from convert.checkpoint import convert_adapter  # noqa: E402
from convert.checkpoint.names import CHECKPOINT  # noqa: E402
from convert.errors import DamagedError  # noqa: E402
from tests.convert.made_checkpoints import (  # noqa: E402
    CONFIG,
    lora_state,
    refused,
    xtuner_file,
    zero3,
)


class Call:
    """What an unpickler would call with these arguments."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.made = (function, arguments, state)

    def __call__(self) -> None:
        raise AssertionError("was called")

    def __reduce__(self) -> Any:
        return self.made if self.made[2] is not None else self.made[:2]


def hostile(path: Path, content: Any) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": content}, protocol=2))
    return path


def touching(mark: Path) -> dict[str, Any]:
    """Ways of running `touch`, by the name that must stand in the refusal."""
    text = f"open({str(mark)!r}, 'w')"
    np = pytest.importorskip("numpy")
    return {
        r"(posix|nt)\.system": Call(os.system, f"touch {mark}"),
        r"__builtin__\.eval": Call(builtins.eval, text),
        r"__builtin__\.exec": Call(builtins.exec, text),
        r"__builtin__\.__import__": Call(Call(getattr, Call(__import__, "os"), "system"), "true"),
        r"the attribute '__globals__' by way of getattr": Call(getattr, set, "__globals__"),
        r"numpy\.fromfile": Call(np.fromfile, str(mark)),
        r"torch\.hub\.load": Call(torch.hub.load, "x/y", "z"),
        r"torch\.storage\._load_from_bytes": Call(torch.storage._load_from_bytes, b"x"),
        r"torch\.serialization\.load": Call(torch.load, str(mark)),
        r"collections\.namedtuple": Call(collections.namedtuple, "a", "b"),
    }


@pytest.mark.parametrize("number", range(10))
def test_a_hostile_pickle_is_refused_by_name(tmp_path: Path, number: int) -> None:
    mark = tmp_path / "was-run"
    said, content = list(touching(mark).items())[number]
    for place, whole in (("alone", content), ("among", {"llm.a": 1, "x": content})):
        path = hostile(tmp_path / f"{place}.pth", whole)
        refused(DamagedError, f"is refused: it asks for {said}", path)
    assert not mark.exists()


def test_a_numpy_array_of_another_kind(tmp_path: Path) -> None:
    """`_reconstruct` makes an instance of whatever class it is handed, past its constructor."""
    reconstruct = pickle.loads(b"cnumpy.core.multiarray\n_reconstruct\n.", encoding="latin1")
    path = hostile(tmp_path / "a.pth", Call(reconstruct, collections.OrderedDict, (0,), b"b"))
    refused(DamagedError, "rebuilds a numpy array of a kind that is none", path)


def test_a_tensor_changed_after_its_check(tmp_path: Path) -> None:
    """BUILD would set a tensor's fields past the check that it stays inside its storage."""
    path = tmp_path / "a.pth"
    torch.save({"state_dict": {"a": torch.ones(4)}}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    inner = members[name].index(b")R")  # its hooks, an empty OrderedDict
    at = members[name].index(b"R", inner + 2)  # the tensor itself
    members[name] = members[name][: at + 1] + b"]b" + members[name][at + 1 :]
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    refused(DamagedError, "is refused: it changes a tensor after making it", path)


def test_what_is_given_out_cannot_be_changed(tmp_path: Path) -> None:
    """A pickle that sets attributes of the reader's own functions changes nothing for the next."""
    text = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}U\x0c__defaults__)s}\x86b."
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", text)
    before = CHECKPOINT["torch._utils", "_rebuild_tensor_v2"].__defaults__
    for body in (text, text.replace(b"}U\x0c__defaults__)s}\x86b", b"N}U\x0c__defaults__)s\x86b")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", body)
        refused(DamagedError, ".", path)
    assert CHECKPOINT["torch._utils", "_rebuild_tensor_v2"].__defaults__ == before


def test_a_compressed_pickle(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": "x" * 10**6}, protocol=2))
    refused(DamagedError, "is a compressed archive", path)


def test_a_configuration_is_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    config = f"import os\nos.system('touch {mark}')\nx = open('{mark}', 'w')\n{CONFIG}"
    checkpoint = xtuner_file(tmp_path / "a.pth", lora_state(), config)
    assert convert_adapter(checkpoint, tmp_path / "out").kind == "adapter"
    assert not mark.exists()


def test_a_hostile_rank(tmp_path: Path) -> None:
    ranks = zero3(tmp_path / "iter_8.pth", lora_state(), 3)
    mark = tmp_path / "was-run"
    hostile(ranks / "zero_pp_rank_1_mp_rank_00_optim_states.pt", Call(os.system, f"touch {mark}"))
    refused(DamagedError, r"asks for (posix|nt)\.system", ranks)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            b"c_codecs\nencode\n(X\x01\0\0\0aX\x03\0\0\0hextR",
            "encode of something that is no bytes",
        ),
        (
            b"ctorch._tensor\n_rebuild_from_type_v2\n(c__builtin__\nset\nN(]tNtR",
            "rebuilds a tensor by something that makes none",
        ),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\0)))tR", "a tensor without a storage"),
    ],
)
def test_known_names_put_to_another_use(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + text + b".")
    refused(DamagedError, said, path)
