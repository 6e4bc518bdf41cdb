"""What the real LMDeploy makes of a command line: its parser, its checks, its engine configuration.

    PYTHON_OF_LMDEPLOY lmdeploy_parser.py

Each line of standard input is a JSON list of arguments; each line of standard output says what the
server would be started with, or `{"refused": why}`. `lmdeploy serve api_server` runs up to the call
that would load the model. Of LMDeploy, only that call is replaced, and the look for a GPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import sys
from typing import Any


def main() -> None:
    cli, serve = (importlib.import_module(f"lmdeploy.cli.{name}") for name in ("cli", "serve"))
    importlib.import_module("lmdeploy.turbomind").is_available = lambda: True
    server = importlib.import_module("lmdeploy.serve.openai.api_server")
    started: dict[str, Any] = {}
    server.serve = lambda folder, **given: started.update(given, folder=folder)
    cli.CLI.add_parsers()
    serve.SubCliServe.add_parsers()
    for line in sys.stdin:
        started.clear()
        print(json.dumps(_answer(cli.CLI.parser, json.loads(line), started)), flush=True)


def _answer(parser: Any, argv: list[str], started: dict[str, Any]) -> dict[str, Any]:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            options = parser.parse_args(argv)
            options.run(options)
    except (SystemExit, Exception) as error:  # noqa: BLE001 - whatever it raises is the answer
        return {"refused": f"{type(error).__name__}: {error}"}
    template, config = started.pop("chat_template_config"), started.pop("backend_config")
    told = {name: value for name, value in started.items() if _plain(value)}
    settings = dataclasses.asdict(config)
    return {
        **told,
        "type": type(config).__name__,
        "config": {name: value for name, value in settings.items() if _plain(value)},
        "template": template and template.model_name,
    }


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | list)


if __name__ == "__main__":
    main()
