"""A Hub of one process, for tests: the endpoints that publishing a model needs, all in memory.

Large files go by plain LFS, so the client must run with HF_HUB_DISABLE_XET=1.
"""

import base64
import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

DROP = -1
"""In place of an HTTP status: the connection is closed without an answer."""
DROP_AFTER = -2
"""The request is carried out, and the connection closed before the answer."""


@dataclass
class Repository:
    private: bool = False
    writable: bool = True
    files: dict[str, bytes] = field(default_factory=dict)
    """What lies there, by path."""
    lfs: set[str] = field(default_factory=set)
    """Paths of the files that went by LFS."""
    commits: list[str] = field(default_factory=list)
    """Messages, oldest first."""
    card_data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Hub:
    """What the server knows, and how it is to behave; tests read and change both."""

    url: str = ""
    token: str = "hf_SecretOfTheTests0123456789"
    access: dict[str, Any] = field(default_factory=lambda: {"role": "write"})
    """What whoami tells of the token."""
    repositories: dict[str, Repository] = field(default_factory=dict)
    failures: list[tuple[str, int]] = field(default_factory=list)
    """(part of the path, HTTP status, DROP or DROP_AFTER): each fails one request that matches, in order."""
    requests: list[str] = field(default_factory=list)
    """`METHOD path` of all requests."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """LFS objects by SHA-256."""
    corrupt: dict[str, bytes] = field(default_factory=dict)
    """Content that takes the place of what is sent, by path."""
    lock: Lock = field(default_factory=Lock)

    def failure(self, path: str) -> int | None:
        with self.lock:
            for place, (part, status) in enumerate(self.failures):
                if part in path:
                    del self.failures[place]
                    return status
        return None


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A Hub on a free port of this machine, until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def git_object(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Answer(Exception):
    """Ends the handling of a request."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes, and the second would wait 40 ms for the first

    def log_message(self, format: str, *arguments: Any) -> None:
        """Tests want no log."""

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def _handle(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self._body()
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {path}")
        failure = self.hub.failure(path)
        if failure == DROP:
            self._hang_up()
            return
        if failure is not None and failure > 0:
            self._send(failure, {"error": f"injected; the token was {self.headers.get('authorization')}"})
            return
        try:
            with self.hub.lock:
                answer = _Answer(200, self._route(path, body))
        except _Answer as early:
            answer = early
        if failure == DROP_AFTER:
            self._hang_up()
        else:
            self._send(answer.status, answer.body)

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _route(self, path: str, body: bytes) -> Any:
        if path.startswith("/objects/"):
            return self._store(path.removeprefix("/objects/"), body)
        path = path.removesuffix("/revision/main")
        if path.startswith(("/api/models/", "/api/datasets/")) and path.count("/") == 4:
            return self._information(path)
        if self.headers.get("authorization") != f"Bearer {self.hub.token}":
            raise _Answer(401, {"error": "Invalid credentials in Authorization header"})
        if path == "/api/whoami-v2":
            account = {"type": "user", "name": "tester", "orgs": [{"name": "club"}]}
            return {**account, "auth": {"type": "access_token", "accessToken": self.hub.access}}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        owner, name, what, *_ = path.removeprefix("/api/models/").split("/")
        repository = self._repository(f"{owner}/{name}")
        if what == "tree":
            return [self._entry(repository, file) for file in sorted(repository.files)]
        if self.hub.access["role"] == "read" or not repository.writable:
            raise _Answer(403, {"error": "You don't have the rights to write here"})
        if what == "auth-check":
            return {}
        if what == "preupload":
            return self._preupload(repository, json.loads(body))
        return self._commit(repository, f"{owner}/{name}", body)

    def _repository(self, repo_id: str) -> Repository:
        if repo_id not in self.hub.repositories:
            raise _Answer(404, {"error": "Repository not found"})
        return self.hub.repositories[repo_id]

    def _information(self, path: str) -> Any:
        repo_id = "/".join(path.split("/")[3:])
        repository = self._repository(repo_id)
        about = {"private": repository.private, "cardData": repository.card_data, "sha": self._head(repository)}
        return {"_id": "0", "id": repo_id, "siblings": [], "tags": [], **about}

    def _head(self, repository: Repository) -> str:
        return hashlib.sha1(str(len(repository.commits)).encode()).hexdigest()

    def _create(self, wanted: dict[str, Any]) -> Any:
        owner = wanted["organization"] or "tester"
        if owner not in ("tester", "club"):
            raise _Answer(403, {"error": "You don't have the rights to create a model under this namespace"})
        repo_id = f"{owner}/{wanted['name']}"
        known = repo_id in self.hub.repositories
        self.hub.repositories.setdefault(repo_id, Repository(private=wanted.get("visibility") == "private"))
        answer = {"url": f"{self.hub.url}/{repo_id}", "name": repo_id}
        if known:
            raise _Answer(409, {"error": "You already created this model repo", **answer})
        return answer

    def _preupload(self, repository: Repository, asked: dict[str, Any]) -> Any:
        files = []
        for file in asked["files"]:
            path = file["path"]
            mode = "lfs" if path.endswith((".safetensors", ".png")) else "regular"
            here = repository.files.get(path)
            oid = None if here is None else hashlib.sha256(here).hexdigest() if mode == "lfs" else git_object(here)
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": files}

    def _batch(self, asked: dict[str, Any]) -> Any:
        objects = []
        for wanted in asked["objects"]:
            described = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.objects:
                described["actions"] = {"upload": {"href": f"{self.hub.url}/objects/{wanted['oid']}"}}
            objects.append(described)
        return {"transfer": "basic", "objects": objects}

    def _store(self, oid: str, body: bytes) -> Any:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Answer(400, {"error": "The content does not have this SHA-256"})
        self.hub.objects[oid] = body
        return {}

    def _commit(self, repository: Repository, repo_id: str, body: bytes) -> Any:
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                repository.commits.append(value["summary"])
            elif item["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.objects[value["oid"]]
                repository.lfs.add(value["path"])
        repository.files.update(
            {path: self.hub.corrupt[path] for path in repository.files.keys() & self.hub.corrupt.keys()}
        )
        oid = self._head(repository)
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{oid}"}

    def _entry(self, repository: Repository, path: str) -> Any:
        content = repository.files[path]
        entry = {"type": "file", "path": path, "size": len(content), "oid": git_object(content)}
        if path in repository.lfs:
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return entry
