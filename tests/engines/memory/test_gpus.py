"""What the driver says of GPUs: rows, complaints, exit codes, and no answer at all.

There is no GPU here. The answers are those that people have posted of real machines; a script
stands in for the program where it is the running of it that matters.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from serve.engines.memory.gpus import Gpu, Seen, look, read, visible

MIB = 1 << 20
TWO = "0, GPU-aaaa-1, 24576, 24245\n1, GPU-bbbb-2, 81559, 81004\n"
GPUS = (
    Gpu(0, "GPU-aaaa-1", 24576 * MIB, 24245 * MIB),
    Gpu(1, "GPU-bbbb-2", 81559 * MIB, 81004 * MIB),
)


def standing_in(folder: Path, script: str) -> dict[str, str]:
    """An environment in which `nvidia-smi` is this script."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_the_program_is_run_and_read(tmp_path: Path) -> None:
    script = f'echo "$@" > {tmp_path}/asked\ncat <<END\n{TWO}END'
    seen = look(standing_in(tmp_path, script))
    assert seen == Seen(GPUS)
    asked = (tmp_path / "asked").read_text(encoding="utf-8")
    assert asked == (
        "--query-gpu=index,uuid,memory.total,memory.free --format=csv,noheader,nounits\n"
    )


def test_a_machine_without_a_driver(tmp_path: Path) -> None:
    seen = look({"PATH": str(tmp_path)})
    assert seen.gpus == ()
    assert seen.trouble == "nvidia-smi cannot be run: No such file or directory"
    assert not seen.answered


def test_a_driver_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; sleep 60 & echo $! > {tmp_path}/child; wait"
    started = time.monotonic()
    seen = look(standing_in(tmp_path, script), patience=0.5)
    assert time.monotonic() - started < 30
    assert seen.trouble == "nvidia-smi did not answer within 0.5 seconds"
    assert not seen.answered
    for name in ("pid", "child"):
        while not _ended((tmp_path / name).read_text().strip()):
            assert time.monotonic() - started < 30, name
            time.sleep(0.01)


def _ended(pid: str) -> bool:
    """Whether a process is no more; the kernel takes its time with one that was killed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_both_streams_and_the_exit_code_are_read(tmp_path: Path) -> None:
    seen = look(standing_in(tmp_path, "echo '0, GPU-a, 10, 9'; echo 'Trouble.' >&2; exit 15"))
    assert [gpu.index for gpu in seen.gpus] == [0]
    assert seen.trouble == "Trouble"


@pytest.mark.parametrize(
    ("text", "code", "trouble"),
    [
        ("No devices were found\n", 6, "No devices were found"),
        ("No devices were found\n", 0, "No devices were found"),
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make "
            "sure that the latest NVIDIA driver is installed and running.\n\n", 9,
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make "
            "sure that the latest NVIDIA driver is installed and running",
        ),
        ("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: "
         "550.54\n", 18, "Failed to initialize NVML: Driver/library version mismatch; NVML "
         "library version: 550.54"),
        ("Failed to initialize NVML: Unknown Error\n", 255,
         "Failed to initialize NVML: Unknown Error"),
        ("", 9, "the NVIDIA driver is not loaded"),
        ("", 15, "a GPU has fallen off the bus"),
        ("", 255, "nvidia-smi ended with exit code 255"),
    ],
)  # fmt: skip
def test_what_keeps_the_driver_from_answering(text: str, code: int, trouble: str) -> None:
    answered = text.startswith("No devices")
    assert read(text, code) == Seen((), {}, trouble, answered)


@pytest.mark.parametrize("code", [0, 15, 255])
def test_a_gpu_off_the_bus_is_lost_and_the_others_are_not(code: int) -> None:
    said = "Unable to determine the device handle for GPU1: 0000:04:00.0: Unknown Error"
    seen = read(f"{said}\n0, GPU-a, 24576, 24000\n2, GPU-c, 24576, 24000\n", code)
    assert [gpu.index for gpu in seen.gpus] == [0, 2]
    assert seen.lost((0, 1)) == {1: said}
    assert seen.free((0, 1)) is None
    assert seen.answered


def test_a_gpu_that_is_lost_in_its_row() -> None:
    seen = read("0, GPU-a, [GPU is lost], [GPU is lost]\n1, GPU-b, 24576, 24000\n", 0)
    assert seen.lost((0, 1)) == {0: "GPU is lost"}
    assert read("0, GPU-a, 24576, [Unknown Error]", 0).lost((0,)) == {0: "Unknown Error"}
    assert read("0, GPU-a, [GPU requires reset], [GPU requires reset]", 0).gpus == ()


@pytest.mark.parametrize(
    "said",
    [
        "Unable to determine the device handle for GPU 0000:03:00.0: GPU is lost.  Reboot the "
        "system to recover this GPU",
        "Unable to determine the device handle for GPU0000:25:00.0: Unknown Error",
    ],
)
def test_an_older_driver_names_only_the_place_on_the_bus(said: str) -> None:
    seen = read(f"{said}\n1, GPU-b, 24576, 24000\n", 15)
    assert seen.unusable == {}
    assert seen.lost((0, 1)) == {0: said}


def test_a_gpu_that_vanished_without_a_word() -> None:
    assert read(TWO, 0).lost((0, 1, 2)) == {2: "the driver no longer lists it"}


@pytest.mark.parametrize("cell", ["[N/A]", "[Not Supported]", "N/A"])
def test_a_gpu_whose_memory_is_not_told(cell: str) -> None:
    seen = read(f"0, GPU-a, {cell}, {cell}\n", 0)
    assert seen.lost((0,)) == {0: "the driver does not say how much memory it has"}


def test_free_is_what_the_fullest_has() -> None:
    seen = read(TWO, 0)
    assert seen.free((0, 1)) == 24245 * MIB
    assert seen.free((1,)) == 81004 * MIB
    assert seen.free(()) is None


@pytest.mark.parametrize(
    ("devices", "indices"),
    [(None, [0, 1]), ("1", [1]), ("1, 0", [0, 1]), ("GPU-bbbb", [1]), ("", []), ("-1", []),
     ("10", [])],
)  # fmt: skip
def test_only_what_cuda_may_see_is_seen(devices: str | None, indices: list[int]) -> None:
    assert [gpu.index for gpu in visible(read(TWO, 0), devices).gpus] == indices


def test_the_environment_says_what_may_be_seen(tmp_path: Path) -> None:
    environ = standing_in(tmp_path, "echo '0, GPU-a, 10, 9'; echo '1, GPU-b, 10, 9'")
    assert [gpu.index for gpu in look({**environ, "CUDA_VISIBLE_DEVICES": "1"}).gpus] == [1]
