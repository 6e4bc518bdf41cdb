"""Puts an image's environment in order: what is found where, whatever Python it was made with.

    python lay_out.py ENVIRONMENT [--borrow OTHER]

`ENVIRONMENT/assistants` becomes the folder of the shipped declarations. With `--borrow`, packages
that ENVIRONMENT lacks are looked for in OTHER, after its own. The tests that packages bring along
(60 MB, pandas' above all) are no use in an image.
"""

import argparse
import shutil
import sysconfig
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("environment", type=Path)
    parser.add_argument("--borrow", type=Path)
    asked = parser.parse_args()
    packages = Path(sysconfig.get_path("purelib"))
    (asked.environment / "assistants").symlink_to(packages / "assistants")
    if asked.borrow:
        lent = sysconfig.get_path("purelib", vars={"base": str(asked.borrow)})
        (packages / "borrowed.pth").write_text(f"{lent}\n")
    for package in ("numpy", "pandas"):
        for tests in list((packages / package).rglob("tests")):
            shutil.rmtree(tests, ignore_errors=True)  # one may lie within another


if __name__ == "__main__":
    main()
