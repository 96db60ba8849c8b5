"""Flask and Redis: `/` counts a hit (INCR, then GET), `/wait` waits 500 ms on Redis.

The answer has a fixed width, so that ab's check of the length means something.
"""

from __future__ import annotations

import os

from flask import Flask, Response
from flask_redis import FlaskRedis

app = Flask(__name__)
app.config["REDIS_URL"] = os.environ["BENCH_REDIS_URL"]
store = FlaskRedis(app)


@app.route("/")
def count() -> Response:
    store.incr("hits")
    return Response(f"{int(store.get('hits')):012d}\n", mimetype="text/plain")


@app.route("/wait")
def wait() -> Response:
    if store.blpop(["nobody-pushes-here"], timeout=0.5) is not None:
        raise RuntimeError("the list that nobody pushes to had an element")
    return Response("waited\n", mimetype="text/plain")
