"""How far a configuration says that positions reach."""

from __future__ import annotations

from typing import Any

import pytest

from convert.positions import reach

TRAINED = {"max_position_embeddings": 4096}


@pytest.mark.parametrize(
    ("scaling", "far"),
    [
        (None, 4096),
        ({"type": "linear", "factor": 4.0}, 16384),
        ({"rope_type": "dynamic", "factor": 2.0}, 8192),
        ({"rope_type": "default", "factor": 4.0}, 4096),
        ({"rope_type": "yarn", "factor": 4.0}, 16384),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}, 4096),
        ({"rope_type": "linear", "factor": 0.5}, 4096),
        ({"rope_type": "linear", "factor": "4"}, 4096),
    ],
)
def test_how_far_positions_reach(scaling: dict[str, Any] | None, far: int) -> None:
    assert reach({**TRAINED, "rope_scaling": scaling}) == far
    assert reach({**TRAINED, "rope_parameters": scaling}) == far


def test_a_configuration_that_does_not_say() -> None:
    assert reach({}) is None
