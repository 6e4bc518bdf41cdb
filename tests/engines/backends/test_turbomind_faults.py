"""What an LMDeploy's log gives away: lines written here, and GPU errors modelled on its sources."""

from __future__ import annotations

import pytest

from serve.engines.backends.turbomind_faults import find

AT = "2026-11-22 06:38:07,862 - lmdeploy - WARNING - archs.py:40 - "
STAMP = "[TM][FATAL][0914.14:00:37.807188]"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            f"\x1b[93m{AT}Fallback to pytorch engine because turbomind is not built.\x1b[0m",
            "LMDeploy fell back to its PyTorch engine, because its TurboMind library cannot be",
        ),
        (
            f"{AT}Fallback to pytorch engine because turbomind engine is not installed correctly. "
            "If you insist to use turbomind engine, you may need to reinstall lmdeploy",
            "because its TurboMind library cannot be loaded",
        ),
        (
            f"{AT}Fallback to pytorch engine because '/w/x' not supported by turbomind engine.",
            "because TurboMind does not know this model",
        ),
        (
            "ValueError: Try apply_chat_template failed: Cannot use chat template functions",
            "chat template is missing or broken (Cannot use chat template functions)",
        ),
        (f"{STAMP}[allocator.cc:49] CUDA error: out of memory", "memory ran out"),
        (
            "RuntimeError: [TM][ERROR] CUDA runtime error: out of memory "
            "/lmdeploy/src/turbomind/utils/memory_utils.cu:32",
            "memory ran out",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.", "memory ran out"),
        (f"{STAMP}[x.cc:302] Check failed: (cache_bytes > size_t{{0}}) (0 vs. 0)", "ran out"),
        (
            "NVRM: Xid (PCI:0000:01:00): 79, pid=1234, GPU has fallen off the bus.",
            "The GPU is lost (Xid (PCI:0000:01:00): 79, pid=1234, GPU has fallen off the bus).",
        ),
        (
            f"{STAMP}[a.cu:1] CUDA error: no CUDA-capable device is detected",
            "The GPU is lost (no CUDA-capable device).",
        ),
        (
            f"{STAMP}[cast.cu:264] CUDA error: no kernel image is available for execution on the "
            "device",
            "The GPU failed (CUDA error: no kernel image is available for execution on the device)",
        ),
        (
            "[TM][ERROR] CUDA runtime error: an illegal memory access was encountered "
            "/lmdeploy/src/turbomind/core/stream.h:20",
            "The GPU failed (CUDA error: an illegal memory access was encountered).",
        ),
        (
            f"\x1b[31m{STAMP}[context.cc:20] CUDA error: invalid device ordinal\x1b[0m",
            "The GPU failed (CUDA error: invalid device ordinal).",
        ),
        (
            "AssertionError: available_devices must be a positive integer or None, got 0",
            "LMDeploy sees no GPU",
        ),
        (f"{STAMP}[turbomind.cc:96] Check failed: weights_[index] != nullptr",
         "TurboMind gave up (Check failed: weights_[index] != nullptr)."),
    ],
)  # fmt: skip
def test_what_is_wrong(line: str, told: str) -> None:
    fault = find(["loading", line, "*** stacktrace of thread 0x7f30d3fff640 ***"])
    assert fault is not None
    assert told in fault
    assert fault.endswith(".")


def test_what_led_to_the_rest_is_told() -> None:
    fault = find(
        [
            f"{AT}Fallback to pytorch engine because turbomind is not built.",
            "RuntimeError: Found no NVIDIA driver on your system.",
            "torch.OutOfMemoryError: CUDA out of memory.",
        ]
    )
    assert fault is not None
    assert fault.startswith("LMDeploy fell back to its PyTorch engine")


def test_ordinary_lines_are_no_fault() -> None:
    assert find([]) is None
    ordinary = [
        "HINT:    Please open \x1b[93m\x1b[1mhttp://127.0.0.1:1\x1b[0m in a browser for detailed",
        "[TM][WARN][0914.14:00:25.876730][turbomind.cc:123] `max_context_token_num` is not set, "
        "default to 16384.",
        "[2026-11-22 06:38:07 DP0] Avg thr (in/out): 3.1 / 7.2 tokens/s, Server "
        "(succeeded/failed/routed/waiting): 1 / 0 / 0 / 0, Engine (running/waiting): 0 / 0",
        f"{AT}The stop word '祝福' is ignored, because it is more than one token.",
    ]
    assert find(ordinary) is None
