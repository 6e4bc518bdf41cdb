"""The names a training checkpoint's pickle asks for beside tensors: each an inert stand-in.

XTuner writes the whole state of a run into a `.pth`: learning-rate curves, random states, the
optimizer. None of it is weights, so none of it is made: every name below stands for an object
that forgets what it is given, and the libraries the names come from are never imported. A name
that is not on the list is refused, as `torch_zip` does.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, Self

from convert.weights.torch_zip import TENSORS, Names


class Inert:
    """Stands in for an object that is no weight."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        return None

    def __setitem__(self, key: Any, value: Any) -> None:
        return None

    def append(self, value: Any) -> None:
        return None

    def extend(self, values: Any) -> None:
        return None


class _Array(Inert):
    """numpy's array; told apart so that nothing else passes for one."""


class _Curve(Inert):
    """mmengine's HistoryBuffer, which keeps references to four of its own methods."""


_STATISTICS = ("mean", "max", "min", "current")


def _attribute(_: pickle.Unpickler, owner: Any, name: Any) -> Inert:
    """`getattr` is how a pickle would climb to anything; one use of it is known."""
    if owner is not _Curve or name not in _STATISTICS:
        raise pickle.UnpicklingError(f"it asks for the attribute {name!r} by way of getattr")
    return Inert()


def _array(_: pickle.Unpickler, kind: Any, *__: Any) -> _Array:
    if kind is not _Array:
        raise pickle.UnpicklingError("it rebuilds a numpy array of a kind that is none")
    return _Array()


def _encoded(_: pickle.Unpickler, text: Any, encoding: Any) -> Inert:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("it asks for _codecs.encode of something that is no bytes")
    return Inert()


def _sized(_: pickle.Unpickler, shape: Any) -> tuple[int, ...]:
    return tuple(map(int, shape))


def _typed(reader: pickle.Unpickler, rebuild: Any, _: Any, arguments: Any, *__: Any) -> Any:
    """A tensor of a subclass: ZeRO-3 hangs attributes on its flat ones."""
    if getattr(rebuild, "__self__", None) is not reader:
        raise pickle.UnpicklingError("it rebuilds a tensor by something that makes none")
    return rebuild(*arguments)


_FUNCTIONS: Mapping[str, Mapping[str, Any]] = {
    "torch": {"Size": _sized},
    "torch._tensor": {"_rebuild_from_type_v2": _typed},
    "torch._utils": {
        "_rebuild_parameter_with_state": TENSORS["torch._utils", "_rebuild_parameter"],
    },
    "_codecs": {"encode": _encoded},
    "numpy.core.multiarray": {"_reconstruct": _array},
    "numpy._core.multiarray": {"_reconstruct": _array},
    "numpy": {"ndarray": _Array},
    "mmengine.logging.history_buffer": {"HistoryBuffer": _Curve},
}
_INERT = {
    "argparse": "Namespace",
    "collections": "Counter defaultdict deque",
    "datetime": "date datetime timedelta timezone",
    "deepspeed.runtime.fp16.loss_scaler": "DynamicLossScaler LossScaler LossScalerBase",
    "deepspeed.runtime.zero.config": "DeepSpeedZeroConfig ZeroStageEnum",
    "deepspeed.runtime.zero.offload_config": "OffloadDeviceEnum",
    "deepspeed.runtime.zero.partition_parameters": "ZeroParamStatus ZeroParamType",
    "deepspeed.utils.tensor_fragment": "fragment_address tensor_fragment",
    "mmengine.config.config": "Config ConfigDict",
    "mmengine.config.lazy": "LazyAttr LazyObject",
    "mmengine.logging.message_hub": "MessageHub",
    "numpy": "bool_ dtype float16 float32 float64 int16 int32 int64 int8 uint32 uint8",
    "numpy.core.multiarray": "scalar",
    "numpy._core.multiarray": "scalar",
    "pathlib": "Path PosixPath PurePosixPath",
    "torch": (
        "Tensor bfloat16 bool device dtype float16 float32 float64 half int16 int32 int64 int8 "
        "uint8"
    ),
    "torch.nn.parameter": "Parameter",
}
_BUILTINS = ("__builtin__", "builtins")


def _all_names() -> Names:
    names = dict(TENSORS)
    for module, words in _INERT.items():
        names.update({(module, name): Inert for name in words.split()})
    for module, functions in _FUNCTIONS.items():
        names.update({(module, name): function for name, function in functions.items()})
    for module in _BUILTINS:
        names.update({(module, "set"): set, (module, "frozenset"): frozenset})
        names[module, "bytearray"] = Inert
        names[module, "getattr"] = _attribute
    return names


CHECKPOINT: Names = _all_names()
"""What a training checkpoint takes."""
