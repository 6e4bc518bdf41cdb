"""Where the arithmetic of a quantisation happens, and what it must not leave behind there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from convert.errors import UnsupportedError
from convert.forward.threads import threads
from convert.quantize.settings import AUTO, Settings

_LAYERS, _BESIDE = 8, 1 << 30
"""What a GPU must have free to be taken unasked: so many times a layer as it is stored, for the
layer in fp32, its candidates and what passes through it, and so much for the rest. ESTIMATED from
what a CPU takes (docs/workspace.md), and never measured on a GPU."""


def settled(settings: Settings, layer_bytes: int) -> Settings:
    """The settings with a device; a GPU whose engines have left no room on it is left to them."""
    if settings.device != AUTO:
        return settings
    room = torch.cuda.is_available() and torch.cuda.mem_get_info()[0]
    return replace(settings, device="cuda" if room >= _LAYERS * layer_bytes + _BESIDE else "cpu")


def fingerprint(settings: Settings) -> tuple[object, ...]:
    """What of the device decides last bits, within `computing`; a draft made on another is begun
    anew, so that one model is never of two."""
    if settings.device == "cpu":
        return (settings.device, torch.get_num_threads())
    return (settings.device, torch.cuda.get_device_name(settings.device))


@contextmanager
def computing(settings: Settings, layer_bytes: int) -> Iterator[None]:
    """Torch as a quantisation needs it, and afterwards as it was.

    Raises:
        UnsupportedError: there is no such device, or it has no room.
    """
    on_gpu = settings.device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        raise UnsupportedError("There is no CUDA device here; quantise with --device cpu.")
    try:
        with torch.inference_mode(), threads(layer_bytes, settings.threads):
            yield
    except torch.OutOfMemoryError as error:
        raise UnsupportedError(
            f"The memory of {settings.device} ran out; stop what else uses it, or quantise with "
            "--device cpu."
        ) from error
    finally:
        if on_gpu:
            torch.cuda.empty_cache()  # engines are started next, and plan with what is free
