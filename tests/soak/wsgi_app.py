"""What the soak asks of a WSGI application, in Flask."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, request, send_file

from soak import begun
from soak.bodies import pieces, whole

app = Flask(__name__)


@app.before_request
def begin() -> tuple[str, int] | None:
    """Every path ends with the request's name, which the field X-Id says again."""
    g.name = request.path.rpartition("/")[2]
    begun.note(g.name)
    said = request.headers.get("X-Id", "nobody")
    if said != g.name:
        return f"{g.name} came with the fields of {said}", 409
    return None


@app.after_request
def sign(response: Response) -> Response:
    response.headers["X-Id"] = g.name
    return response


@app.get("/hello/<name>")
def hello(name: str) -> str:
    return f"hello {name}"


@app.get("/wait/<name>")
def wait(name: str) -> str:
    time.sleep(request.args.get("seconds", type=float, default=0.0))
    return f"waited {name}"


@app.post("/digest/<name>")
def digest(name: str) -> dict[str, Any]:
    length, sha256 = 0, hashlib.sha256()
    while piece := request.stream.read(65536):
        length += len(piece)
        sha256.update(piece)
    return {"name": name, "length": length, "sha256": sha256.hexdigest()}


@app.post("/echo/<name>")
def echo(name: str) -> Response:
    return Response(request.get_data(), mimetype="application/octet-stream")


@app.get("/block/<name>")
def block(name: str) -> Response:
    return Response(whole(name, request.args.get("size", 0, int)))


@app.get("/stream/<name>")
def stream(name: str) -> Response:
    return Response(pieces(name, request.args.get("size", 0, int)))


@app.get("/file/<name>")
def file(name: str) -> Response:
    return send_file(Path.cwd() / "files" / request.args["file"], conditional=False)


@app.get("/events/<name>")
def events(name: str) -> Response:
    count = request.args.get("count", 0, int)

    def each() -> Iterator[str]:
        for number in range(count):
            yield f"data: {name} {number}\n\n"
            time.sleep(0.05)

    return Response(each(), mimetype="text/event-stream")
