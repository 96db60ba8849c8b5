"""A small Flask application: `remuda -w 4 demo:app`.

Its pages show what a server does for an application: plain answers, JSON, a form with an upload,
a streamed response, a slow request, an error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from flask import Flask, Response, jsonify, request

app = Flask(__name__)

PAGE = """<!doctype html>
<title>Remuda demo</title>
<h1>It works</h1>
<p>Served by worker {pid}.</p>
<ul>
  <li><a href="/json">JSON</a></li>
  <li><a href="/stream">a response that streams for five seconds</a></li>
  <li><a href="/sleep?seconds=2">a request that takes two seconds</a></li>
  <li><a href="/error">an application error</a></li>
</ul>
<form method="post" action="/upload" enctype="multipart/form-data">
  <input type="file" name="file"> <button>Upload</button>
</form>
"""


@app.get("/")
def index() -> str:
    """The page with links to the others."""
    return PAGE.format(pid=os.getpid())


@app.get("/json")
def json() -> Response:
    """What the application knows about the request."""
    return jsonify(
        method=request.method,
        url=request.url,
        headers=dict(request.headers),
        client=request.remote_addr,
        worker=os.getpid(),
    )


@app.get("/stream")
def stream() -> Response:
    """Five lines, one a second, each sent as it is made."""

    def lines() -> Iterator[str]:
        for line in range(1, 6):
            yield f"line {line} of 5\n"
            time.sleep(1)

    return Response(lines(), mimetype="text/plain")


@app.get("/sleep")
def sleep() -> str:
    """Take as many seconds as asked for, ten at most."""
    seconds = min(max(request.args.get("seconds", default=1.0, type=float), 0.0), 10.0)
    time.sleep(seconds)
    return f"slept for {seconds:g} s\n"


@app.post("/upload")
def upload() -> tuple[str, int] | str:
    """Count the bytes of an uploaded file."""
    file = request.files.get("file")
    if file is None:
        return "no file in the form\n", 400
    size = sum(len(piece) for piece in iter(lambda: file.stream.read(65536), b""))
    return f"{file.filename or 'file'}: {size} bytes\n"


@app.get("/error")
def error() -> str:
    """Raise: the client gets 500, the error log the traceback."""
    raise RuntimeError("this application fails on purpose")
