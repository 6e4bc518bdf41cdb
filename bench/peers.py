"""How each gateway is started before an engine, with every feature of ours that it also has.

nginx is found on the path and LMDeploy by HANLIN_LMDEPLOY_PYTHON; the others are environments in
one folder, made so:

    for peer in smg sglang-router 'litellm[proxy]'; do
      python3 -m venv FOLDER/${peer%[*} && FOLDER/${peer%[*}/bin/pip install "$peer"; done
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from bench.paced_engine import MODEL
from bench.tools import version
from serve.ports import free_port

KEY = "hl-bench"
PLENTY = 10**9
"""A limit that is counted and never reached."""
HOUSE = f"""
name: {MODEL}
aliases: [bench]
title: bench
description: bench
system: You are a helpful assistant who wishes people well.
sampling: {{temperature: 0.7, top_p: 0.8, repetition_penalty: 1.02}}
limits: {{concurrency: 1024, queue: 1024, max_tokens: 4096}}
model: {{base: hanlin-mini}}
upstreams: ["ENGINE"]
"""
NGINX = """
daemon off; worker_processes 1; pid FOLDER/nginx.pid; error_log FOLDER/nginx.err;
events { worker_connections 4096; }
http { access_log off; client_max_body_size 64m; client_body_buffer_size 1m;
  client_body_temp_path FOLDER/b; proxy_temp_path FOLDER/p; fastcgi_temp_path FOLDER/f;
  uwsgi_temp_path FOLDER/u; scgi_temp_path FOLDER/s; keepalive_requests 1000000;
  upstream engine { server ENGINE; keepalive 256; keepalive_requests 1000000; }
  server { listen 127.0.0.1:PORT backlog=4096;
    location / { proxy_pass http://engine; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_buffering off; } } }
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A gateway as it is started."""

    title: str
    command: list[str]
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    afterwards: tuple[str, dict[str, str]] | None = None
    """What is posted to it once it listens."""


Start = Callable[[Path, int], "Peer | None"]
"""From a folder of its own and the engine's port; None where it is not installed."""


def ours(folder: Path, engine: int) -> Peer:
    """Keys with all three limits, metrics, log, system prompt, defaults: everything is on."""
    (folder / "assistants").mkdir(parents=True)
    text = HOUSE.replace("ENGINE", f"http://127.0.0.1:{engine}")
    (folder / "assistants" / f"{MODEL}.yaml").write_text(text, encoding="utf-8")
    rule = {"sha256": sha256(KEY.encode()).hexdigest(), "assistants": [MODEL],
            "requests_per_minute": PLENTY, "tokens_per_minute": PLENTY,
            "concurrency": 4096}  # fmt: skip
    (folder / "keys.yaml").write_text(json.dumps({"keys": {"bench": rule}}), encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "hanlin", "gateway", "--assistants", folder / "assistants",
               "--port", port, "--keys", folder / "keys.yaml"]  # fmt: skip
    return Peer("Hanlin, everything on", [str(part) for part in command], port)


def nginx(folder: Path, engine: int) -> Peer | None:
    """What passing on costs where nothing is looked at."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        return None
    port = free_port()
    text = NGINX.replace("FOLDER", str(folder)).replace("PORT", str(port))
    (folder / "conf").write_text(text.replace("ENGINE", f"127.0.0.1:{engine}"), encoding="utf-8")
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    title = f"nginx {said.strip().rpartition('/')[2]}"
    return Peer(title, [program, "-p", str(folder), "-c", str(folder / "conf")], port)


def lmdeploy(_: Path, engine: int) -> Peer | None:
    """LMDeploy's own proxy."""
    python = os.environ.get("HANLIN_LMDEPLOY_PYTHON")
    if python is None:
        return None
    port = free_port()
    command = [python, "-m", "lmdeploy", "serve", "proxy", "--server-name", "127.0.0.1",
               "--server-port", str(port), "--disable-cache-status", "--log-level",
               "ERROR"]  # fmt: skip
    node = ("/nodes/add", {"url": f"http://127.0.0.1:{engine}"})
    title = f"`lmdeploy serve proxy` {version(python, 'lmdeploy')}"
    return Peer(title, command, port, {"CUDA_VISIBLE_DEVICES": ""}, node)


def installed(tools: Path | None) -> dict[str, Start]:
    """Every peer by name."""

    def of(name: str, program: str) -> tuple[str, Path] | None:
        """Its title and the program."""
        bin_ = (tools or Path()) / name / "bin"
        if tools is None or not (bin_ / program).exists():
            return None
        return f"{name} {version(str(bin_ / 'python'), name)}", bin_.absolute() / program

    def rust(name: str, program: str, *first: str) -> Start:
        def start(_: Path, engine: int) -> Peer | None:
            if (found := of(name, program)) is None:
                return None
            port = free_port()
            command = [found[1], *first, "--host", "127.0.0.1", "--port", port, "--worker-urls",
                       f"http://127.0.0.1:{engine}", "--policy", "round_robin", "--log-level",
                       "error", "--prometheus-port", free_port()]  # fmt: skip
            return Peer(found[0], [str(part) for part in command], port)

        return start

    def litellm(folder: Path, engine: int) -> Peer | None:
        if (found := of("litellm", "litellm")) is None:
            return None
        there = {"model": f"openai/{MODEL}", "api_key": "none",
                 "api_base": f"http://127.0.0.1:{engine}/v1"}  # fmt: skip
        config = {"model_list": [{"model_name": MODEL, "litellm_params": there}],
                  "litellm_settings": {"drop_params": True},
                  "general_settings": {"master_key": KEY}}  # fmt: skip
        (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
        port = free_port()
        command = [found[1], "--config", folder / "config.yaml", "--host", "127.0.0.1", "--port",
                   port, "--num_workers", 1]  # fmt: skip
        quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION",
                 "LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False"}  # fmt: skip
        return Peer(found[0], [str(part) for part in command], port, quiet)

    return {
        "ours": ours,
        "nginx": nginx,
        "smg": rust("smg", "smg", "launch", "--disable-tokenizer-autoload"),
        "sglang-router": rust("sglang-router", "python", "-m", "sglang_router.launch_router"),
        "litellm": litellm,
        "lmdeploy": lmdeploy,
    }
