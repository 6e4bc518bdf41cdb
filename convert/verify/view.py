"""A workspace as the rules see it: read-only, each file read once and only when a rule asks.

Nothing here decides whether something is right. A file that cannot be read raises `UnreadError`,
so that one broken file is one finding and not twenty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from convert.errors import DamagedError, UnsupportedError
from convert.geometry import Geometry, read_geometry
from convert.verify.report import LLAMACPP, REBUILD, TURBOMIND, NotApplicable, UnreadError
from convert.weights.safetensors_files import INDEX, SafetensorsFile, read_index
from convert.weights.tensors import TensorInfo
from convert.workspace import ENGINE, MANIFEST

CONFIG = "config.json"
GENERATION = "generation_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
WEIGHTS = "weights"
"""Stands for all files of weights, of which no single one has a fixed name."""


class View:
    """One folder."""

    def __init__(self, folder: Path, tp: int | None = None, *, fresh: bool = False) -> None:
        self.folder = folder
        self.fresh = fresh
        """Whether it was written just now by who asks: then no file is read whole again."""
        self._tp = tp

    @cached_property
    def files(self) -> frozenset[str]:
        """Every file, by its path inside the folder."""
        return frozenset(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_file()
        )

    @cached_property
    def config(self) -> Mapping[str, Any]:
        return self._required(CONFIG)

    @cached_property
    def engine(self) -> Mapping[str, Any]:
        return self._required(ENGINE)

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        return self._required(MANIFEST)

    @cached_property
    def generation(self) -> Mapping[str, Any]:
        return self._optional(GENERATION)

    @cached_property
    def tokenizer(self) -> Mapping[str, Any]:
        return self._required(TOKENIZER)

    @cached_property
    def tokenizer_config(self) -> Mapping[str, Any]:
        return self._optional(TOKENIZER_CONFIG)

    @property
    def engine_name(self) -> str:
        """Which engine this folder is for; a folder with a GGUF file is llama.cpp's."""
        if ENGINE in self.files and isinstance(name := self._told().get("engine"), str):
            return name
        return LLAMACPP if any(name.endswith(".gguf") for name in self.files) else TURBOMIND

    def _told(self) -> Mapping[str, Any]:
        try:
            return self.engine
        except UnreadError:
            return {}

    @property
    def asked_tp(self) -> Any:
        """Ranks as they were asked for, here or in engine.json; rule 13 judges them."""
        return self.engine.get("tp", 1) if self._tp is None else self._tp

    @property
    def tp(self) -> int:
        """Ranks, or 1 where what was asked for is no number of ranks."""
        asked = self.asked_tp
        return asked if isinstance(asked, int) and asked >= 1 else 1

    @cached_property
    def quantization(self) -> Mapping[str, Any] | None:
        """How the weights are quantised; LMDeploy looks inside nested configs too."""
        found = self.config.get("quantization_config")
        for inner in ("text_config", "llm_config"):
            if found is None and isinstance(nested := self.config.get(inner), dict):
                found = nested.get("quantization_config")
        return found if isinstance(found, dict) and found else None

    @property
    def method(self) -> str | None:
        return str((self.quantization or {}).get("quant_method")) if self.quantization else None

    @cached_property
    def geometry(self) -> Geometry:
        try:
            return read_geometry(self.config)
        except UnsupportedError as error:
            raise NotApplicable(str(error)) from error

    @cached_property
    def index(self) -> Mapping[str, str] | None:
        if INDEX not in self.files:
            return None
        try:
            return read_index(self.folder / INDEX)
        except DamagedError as error:
            raise UnreadError(INDEX, problem(error), REBUILD) from error

    @cached_property
    def shards(self) -> tuple[str, ...]:
        """The files of weights TurboMind would open, in its order of preference: those of the
        index, else `model*.safetensors`, else any safetensors."""
        if self.index is not None:
            return tuple(sorted(set(self.index.values())))
        loose = sorted(n for n in self.files if n.endswith(".safetensors") and "/" not in n)
        return tuple([n for n in loose if n.startswith("model")] or loose)

    @cached_property
    def headers(self) -> Mapping[str, Mapping[str, TensorInfo]]:
        """The checked headers of all shards."""
        if not self.shards:
            raise UnreadError(WEIGHTS, "are missing: there is no safetensors file.", REBUILD)
        return {name: self._header(name) for name in self.shards}

    def _header(self, name: str) -> Mapping[str, TensorInfo]:
        if name not in self.files:
            raise UnreadError(name, "is named by the index but is not in the folder.", REBUILD)
        try:
            file = SafetensorsFile(self.folder / name)
        except (DamagedError, OSError) as error:
            raise UnreadError(name, problem(error), REBUILD) from error
        file.close()
        return file.infos

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """What TurboMind would load: with an index, only what the index names."""
        if self.index is None:
            return {name: info for infos in self.headers.values() for name, info in infos.items()}
        for tensor, shard in self.index.items():
            if tensor not in self.headers[shard]:
                raise UnreadError(
                    INDEX, f"says that {tensor} is in {shard}, but it is not.", REBUILD
                )
        return {tensor: self.headers[shard][tensor] for tensor, shard in self.index.items()}

    def _required(self, name: str) -> Mapping[str, Any]:
        if name not in self.files:
            raise UnreadError(name, "is missing.", REBUILD)
        return self._optional(name)

    def _optional(self, name: str) -> Mapping[str, Any]:
        if name not in self.files:
            return {}
        try:
            found = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnreadError(name, f"cannot be read as JSON: {error}.", REBUILD) from error
        if not isinstance(found, dict):
            raise UnreadError(name, "is not a JSON object.", REBUILD)
        return found


def problem(error: Exception) -> str:
    """What is wrong with a file, without its path in front."""
    if isinstance(error, DamagedError):
        return str(error).removeprefix(f"{error.path}: ")
    return str(error)
