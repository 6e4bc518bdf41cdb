"""Keeps `schema.json` true: `--write` generates it anew, `--check` says whether it still is."""

from __future__ import annotations

import sys

from assistants.schema import SCHEMA_FILE, json_schema


def main(arguments: list[str]) -> int:
    if "--write" in arguments:
        SCHEMA_FILE.write_text(json_schema(), encoding="utf-8")
        return 0
    if SCHEMA_FILE.read_text(encoding="utf-8") == json_schema():
        return 0
    sys.stderr.write("assistants/schema.json is out of date: run make docs\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
