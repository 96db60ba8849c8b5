"""Hello in Quart."""

from __future__ import annotations

from quart import Quart, Response

app = Quart(__name__)


@app.route("/")
async def hello() -> Response:
    return Response("Hello, World!\n", mimetype="text/plain")
