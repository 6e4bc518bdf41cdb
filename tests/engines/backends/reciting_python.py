"""The Python of an LMDeploy, on a machine without a GPU: runs a script with the reciter installed.

    PYTHON_OF_LMDEPLOY reciting_python.py SCRIPT [ARGUMENT…]

What takes TurboMind's place, and what remains real, is told in
`tests/gateway/contract/reciting_turbomind.py`.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

CONTRACT = Path(__file__).parents[2] / "gateway" / "contract"


def main() -> None:
    here = str(Path(__file__).parent)
    sys.path[:] = [str(CONTRACT), *(entry for entry in sys.path if entry != here)]
    import reciting_turbomind  # type: ignore[import-not-found]

    reciting_turbomind.install()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
