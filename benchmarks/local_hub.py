"""A model hub of one model on this machine, for tools that ask one: answers what huggingface_hub's client wants."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

_COMMIT = "0" * 40


@contextmanager
def local_hub(model_id: str, config: Mapping[str, Any]) -> Iterator[str]:
    """The address of a hub that has `model_id` with this config.json and nothing else."""
    content = json.dumps(dict(config)).encode()
    about = {
        "_id": "0", "id": model_id, "modelId": model_id, "sha": _COMMIT, "private": False, "gated": False,
        "tags": ["transformers"], "library_name": "transformers", "siblings": [{"rfilename": "config.json"}],
        "config": {"model_type": config["model_type"]},
    }  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(send_body=False)

        def do_GET(self) -> None:
            self._answer(send_body=True)

        def log_message(self, *_: Any) -> None:
            return

        def _answer(self, *, send_body: bool) -> None:
            if self.path.startswith(f"/api/models/{model_id}"):
                self._send(json.dumps(about).encode(), send_body)
            elif self.path.endswith("/config.json"):
                self._send(content, send_body)
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("X-Repo-Commit", _COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _send(self, body: bytes, send_body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"')
            self.send_header("X-Repo-Commit", _COMMIT)
            self.end_headers()
            if send_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
