"""Stand-ins for both hubs: the endpoints their clients really call, for one repository."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "modeling_x.py": b"raise SystemExit",
    "model.safetensors": os.urandom(1 << 20),
    "pytorch_model.bin": b"older",
    "consolidated.safetensors": b"the same once more",
    "original/params.json": b"{}",
    "README.md": b"# card",
    "flax_model.msgpack": b"other",
}
NEEDED = {"config.json", "tokenizer.json", "chat_template.jinja", "modeling_x.py",
          "model.safetensors"}  # fmt: skip
"""What a model's repository holds, and what of it is worth fetching."""


class HubStub:
    """What the repository holds, what was asked for, and one wish: to hang up half way."""

    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        self.repo = repo
        self.files = files
        self.asked: list[tuple[str, str, str | None]] = []
        self.hang_up_on: str | None = None
        self.url = ""

    def answer(self, path: str, begins: int) -> tuple[int, dict[str, str], bytes]:
        path = path.partition("?")[0]
        if path.startswith(f"/api/models/{self.repo}/tree/"):
            return 200, {"Content-Type": "application/json"}, self._tree()
        if path.startswith(f"/api/models/{self.repo}"):
            return 200, {"Content-Type": "application/json"}, self._info()
        name = path.removeprefix(f"/{self.repo}/resolve/").partition("/")[2]
        if name not in self.files or not path.startswith(f"/{self.repo}/resolve/"):
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        content = self.files[name]
        headers = {
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "Accept-Ranges": "bytes",
        }
        if begins:
            headers["Content-Range"] = f"bytes {begins}-{len(content) - 1}/{len(content)}"
        return 206 if begins else 200, headers, content[begins:]

    def _info(self) -> bytes:
        siblings = [{"rfilename": name} for name in self.files]
        info = {"_id": "1", "id": self.repo, "modelId": self.repo, "sha": COMMIT, "tags": []}
        return json.dumps(info | {"siblings": siblings, "private": False}).encode()

    def _tree(self) -> bytes:
        return json.dumps(
            [
                {"type": "file", "path": name, "size": len(content), "oid": COMMIT}
                for name, content in self.files.items()
            ]
        ).encode()


class ModelScopeStub(HubStub):
    """The same for modelscope.cn: one listing, and files by query."""

    def answer(self, path: str, begins: int) -> tuple[int, dict[str, str], bytes]:
        where, query = urlsplit(path).path, parse_qs(urlsplit(path).query)
        repo = f"/api/v1/models/{self.repo}/repo"
        if query.get("Revision") != [COMMIT] or not where.startswith(repo):
            body = {"Code": 10010205001, "Success": False, "Message": "not found", "Data": None}
            return 404, {"Content-Type": "application/json"}, json.dumps(body).encode()
        if where == f"{repo}/files":
            body = {"Code": 200, "Success": True, "Data": {"Files": self._listing()}}
            return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()
        content = self.files[query["FilePath"][0]]
        headers = {"Accept-Ranges": "bytes"}
        if begins:
            headers["Content-Range"] = f"bytes {begins}-{len(content) - 1}/{len(content)}"
        return 206 if begins else 200, headers, content[begins:]

    def _listing(self) -> list[dict[str, object]]:
        return [
            {
                "Path": name, "Name": name.rpartition("/")[2], "Type": "blob",
                "Size": len(content), "Sha256": hashlib.sha256(content).hexdigest(),
                "Revision": COMMIT,
            }
            for name, content in self.files.items()
        ]  # fmt: skip


@contextmanager
def serving(stub: HubStub) -> Iterator[HubStub]:
    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            begins = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
            stub.asked.append((self.command, self.path, asked))
            status, headers, body = stub.answer(self.path, begins)
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if stub.hang_up_on and self.path.endswith(stub.hang_up_on):
                stub.hang_up_on = None
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
