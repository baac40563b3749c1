"""A hub in miniature on a local port: what the real client asks, answered as huggingface.co answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubDouble:
    """`config` and `info` by repository; `refusals` answers a repository's requests with an error."""

    config: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    info: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(hub: HubDouble) -> Iterator[HubDouble]:
    """Serves `hub` on a free port of this machine while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self.answer_info("/".join(parts[2:4]))
            else:
                self.answer_file("/".join(parts[:2]), parts[-1])

        def do_HEAD(self) -> None:
            self.do_GET()

        def answer_info(self, repository: str) -> None:
            if repository in hub.refusals and hub.refusals[repository][1] != "GatedRepo":
                self.refuse(*hub.refusals[repository])
            elif repository not in hub.info:
                self.refuse(404, "RepoNotFound")
            else:
                self.reply({"id": repository, "sha": COMMIT, **hub.info[repository]})

        def answer_file(self, repository: str, name: str) -> None:
            if repository in hub.refusals:
                self.refuse(*hub.refusals[repository])
            elif repository not in hub.config or name != "config.json":
                self.refuse(404, "EntryNotFound" if repository in hub.info else "RepoNotFound")
            else:
                self.reply(hub.config[repository])

        def reply(self, content: Mapping[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{abs(hash(body)):040x}"')
            self.finish_head(body)

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.finish_head(b"{}")

        def finish_head(self, body: bytes) -> None:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
