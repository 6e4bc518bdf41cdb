"""The tensors of several torch archives under an index: how models were once shared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from convert.errors import DamagedError
from convert.weights.dtypes import Raw
from convert.weights.tensors import TensorInfo
from convert.weights.torch_zip import TorchFile


class TorchFolder:
    """All tensors an index names, each read from its shard."""

    def __init__(self, folder: Path, index: Mapping[str, str]) -> None:
        self._files: dict[str, TorchFile] = {}
        self._of: dict[str, TorchFile] = {}
        try:
            for name in sorted(set(index.values())):
                if not (folder / name).exists():
                    raise DamagedError(folder, f"has an index that names {name}, but no such file.")
                self._files[name] = TorchFile(folder / name)
            for tensor, name in index.items():
                if tensor not in self._files[name].infos:
                    raise DamagedError(
                        folder / name, f"lacks {tensor}, which the index puts there."
                    )
                self._of[tensor] = self._files[name]
        except BaseException:
            self.close()
            raise
        self.infos: Mapping[str, TensorInfo] = {n: f.infos[n] for n, f in self._of.items()}

    def read(self, name: str, start: int, stop: int) -> Raw:
        return self._of[name].read(name, start, stop)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
