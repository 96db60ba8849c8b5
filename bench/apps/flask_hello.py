"""The classic comparison: Flask's hello."""

from __future__ import annotations

from flask import Flask, Response

app = Flask(__name__)


@app.route("/")
def hello() -> Response:
    return Response("Hello, World!\n", mimetype="text/plain")
