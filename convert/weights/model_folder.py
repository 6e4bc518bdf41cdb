"""A model as it lies in a folder (or one GGUF file): its configuration, its weights, the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convert.errors import DamagedError, FetchError
from convert.missing import no_folder
from convert.weights.safetensors_files import INDEX, SafetensorsFolder, read_index
from convert.weights.tensors import TensorSource
from convert.weights.torch_folder import TorchFolder
from convert.weights.torch_zip import TorchFile

WEIGHTS = (
    ".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt", ".ot",
)  # fmt: skip
"""Endings of files that hold weights in some form."""

TORCH_INDEX = "pytorch_model.bin.index.json"

COMPANIONS = (".json", ".py", ".model", ".txt", ".jinja", ".tiktoken")
"""Endings of what belongs to a model beside its weights: tokenizer, templates, remote code."""

_NOT_OURS = ("adapter_config.json", "trainer_state.json", "engine.json", "manifest.json")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if not path.parent.exists():
            raise FetchError(no_folder(path.parent)) from error
        raise FetchError(f"{path.parent} has no {path.name}.") from error
    except ValueError as error:
        raise DamagedError(path, f"is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise DamagedError(path, "is not a JSON object.")
    return found


def config_text(config: Mapping[str, Any]) -> str:
    """A configuration as it is written."""
    return json.dumps(config, ensure_ascii=False, indent=2) + "\n"


def companions(folder: Path) -> list[Path]:
    """What belongs to the model beside its weights, in the order of names."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and path.suffix in COMPANIONS
        and not path.name.endswith(".index.json")
        and path.name not in _NOT_OURS
    )


def weight_files(path: Path) -> list[Path]:
    """The files that the weights of a model are read from, index included."""
    if path.is_file():
        return [path]
    index = path / INDEX
    if index.exists():
        return [index, *sorted(path.glob("*.safetensors"))]
    loose = sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin*"))
    return loose or [f for f in _torch_files(path) if f.exists()]


def _torch_files(folder: Path) -> list[Path]:
    return [folder / "pytorch_model.bin", folder / "adapter_model.bin"]


@contextmanager
def opened(path: Path) -> Iterator[TensorSource]:
    """The weights of a model folder, held open for as long as the `with` lasts."""
    source: SafetensorsFolder | TorchFile | TorchFolder
    if any(path.glob("*.safetensors")) or (path / INDEX).exists():
        source = SafetensorsFolder(path)
    else:
        source = _torch(path)
    try:
        yield source
    finally:
        source.close()


def _torch(folder: Path) -> TorchFile | TorchFolder:
    if (folder / TORCH_INDEX).exists():
        return TorchFolder(folder, read_index(folder / TORCH_INDEX))
    for path in _torch_files(folder):
        if path.exists():
            return TorchFile(path)
    raise FetchError(f"{folder} holds no weights (*.safetensors or pytorch_model.bin).")
