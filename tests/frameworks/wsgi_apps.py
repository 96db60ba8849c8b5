"""The same application in each WSGI framework. The tests copy this file beside the server."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def digest(pieces: Iterable[bytes]) -> str:
    """What an upload is answered with: its length and its hash."""
    hasher, length = hashlib.sha256(), 0
    for piece in pieces:
        hasher.update(piece)
        length += len(piece)
    return f"{length} {hasher.hexdigest()}"


def pieces_of(file: Any) -> Iterator[bytes]:
    """A file in pieces."""
    while piece := file.read(65536):
        yield piece


def numbers() -> Iterator[bytes]:
    """A streamed response."""
    for number in range(5):
        yield b"%d\n" % number


def events() -> Iterator[bytes]:
    """Server-sent events, the second not before the test has seen the first."""
    yield b"data: first\n\n"
    while not Path("seen").exists():
        time.sleep(0.01)
    yield b"data: second\n\n"


def flask_app() -> Any:
    import flask

    app = flask.Flask(__name__)

    @app.get("/hello")
    def hello() -> str:
        return f"Hello {flask.request.args['name']}"

    @app.post("/form")
    def form() -> str:
        return f"{flask.request.form['a']} {flask.request.form['b']}"

    @app.post("/upload")
    def upload() -> str:
        return digest(pieces_of(flask.request.files["file"].stream))

    @app.get("/stream")
    def stream() -> Any:
        return flask.Response(numbers(), mimetype="text/plain")

    @app.get("/sse")
    def sse() -> Any:
        return flask.Response(events(), mimetype="text/event-stream")

    @app.get("/redirect")
    def redirect() -> Any:
        return flask.redirect("/hello?name=again")

    @app.get("/cookies")
    def cookies() -> Any:
        response = flask.make_response(flask.request.cookies.get("one", "none"))
        response.set_cookie("one", "1")
        response.set_cookie("two", "2")
        return response

    @app.get("/error")
    def error() -> str:
        raise RuntimeError("broken")

    return app


def django_app() -> Any:
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse, HttpResponseRedirect, StreamingHttpResponse
    from django.urls import path

    def cookies(request: Any) -> Any:
        response = HttpResponse(request.COOKIES.get("one", "none"))
        response.set_cookie("one", "1")
        response.set_cookie("two", "2")
        return response

    def error(request: Any) -> Any:
        raise RuntimeError("broken")

    class Urls:
        urlpatterns = [  # noqa: RUF012  (a constant)
            path("hello", lambda r: HttpResponse(f"Hello {r.GET['name']}")),
            path("form", lambda r: HttpResponse(f"{r.POST['a']} {r.POST['b']}")),
            path("upload", lambda r: HttpResponse(digest(r.FILES["file"].chunks()))),
            path("stream", lambda r: StreamingHttpResponse(numbers(), content_type="text/plain")),
            path(
                "sse", lambda r: StreamingHttpResponse(events(), content_type="text/event-stream")
            ),
            path("redirect", lambda r: HttpResponseRedirect("/hello?name=again")),
            path("cookies", cookies),
            path("error", error),
        ]

    settings.configure(
        SECRET_KEY="for the tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=Urls,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    )
    django.setup()
    return get_wsgi_application()


def bottle_app() -> Any:
    import bottle

    app = bottle.Bottle()

    @app.get("/hello")
    def hello() -> str:
        return f"Hello {bottle.request.query.name}"

    @app.post("/form")
    def form() -> str:
        return f"{bottle.request.forms.a} {bottle.request.forms.b}"

    @app.post("/upload")
    def upload() -> str:
        return digest(pieces_of(bottle.request.files["file"].file))

    @app.get("/stream")
    def stream() -> Iterator[bytes]:
        bottle.response.content_type = "text/plain"
        return numbers()

    @app.get("/sse")
    def sse() -> Iterator[bytes]:
        bottle.response.content_type = "text/event-stream"
        return events()

    @app.get("/redirect")
    def redirect() -> None:
        bottle.redirect("/hello?name=again", 302)

    @app.get("/cookies")
    def cookies() -> str:
        bottle.response.set_cookie("one", "1")
        bottle.response.set_cookie("two", "2")
        return bottle.request.get_cookie("one", "none")

    @app.get("/error")
    def error() -> str:
        raise RuntimeError("broken")

    return app


def falcon_app() -> Any:
    import falcon

    def on(method: str) -> Any:
        def resource(function: Any) -> Any:
            handler = staticmethod(function)
            return type(function.__name__, (), {f"on_{method}": handler})()

        return resource

    @on("get")
    def hello(request: Any, response: Any) -> None:
        response.text = f"Hello {request.get_param('name')}"

    @on("post")
    def form(request: Any, response: Any) -> None:
        media = request.get_media()
        response.text = f"{media['a']} {media['b']}"

    @on("post")
    def upload(request: Any, response: Any) -> None:
        for part in request.get_media():
            if part.name == "file":
                response.text = digest(pieces_of(part.stream))

    @on("get")
    def stream(request: Any, response: Any) -> None:
        response.content_type = "text/plain"
        response.stream = numbers()

    @on("get")
    def sse(request: Any, response: Any) -> None:
        response.content_type = "text/event-stream"
        response.stream = events()

    @on("get")
    def redirect(request: Any, response: Any) -> None:
        raise falcon.HTTPFound("/hello?name=again")

    @on("get")
    def cookies(request: Any, response: Any) -> None:
        response.set_cookie("one", "1", secure=False)
        response.set_cookie("two", "2", secure=False)
        response.text = request.cookies.get("one", "none")

    @on("get")
    def error(request: Any, response: Any) -> None:
        raise RuntimeError("broken")

    app = falcon.App()
    for resource in (hello, form, upload, stream, sse, redirect, cookies, error):
        app.add_route(f"/{type(resource).__name__}", resource)
    return app


def pyramid_app() -> Any:
    from pyramid.config import Configurator
    from pyramid.httpexceptions import HTTPFound
    from pyramid.response import Response

    def cookies(request: Any) -> Any:
        response = Response(request.cookies.get("one", "none"))
        response.set_cookie("one", "1")
        response.set_cookie("two", "2")
        return response

    def error(request: Any) -> Any:
        raise RuntimeError("broken")

    views = {
        "hello": lambda r: Response(f"Hello {r.params['name']}"),
        "form": lambda r: Response(f"{r.POST['a']} {r.POST['b']}"),
        "upload": lambda r: Response(digest(pieces_of(r.POST["file"].file))),
        "stream": lambda r: Response(app_iter=numbers(), content_type="text/plain"),
        "sse": lambda r: Response(app_iter=events(), content_type="text/event-stream"),
        "redirect": lambda r: HTTPFound("/hello?name=again"),
        "cookies": cookies,
        "error": error,
    }
    with Configurator() as config:
        for name, view in views.items():
            config.add_route(name, f"/{name}")
            config.add_view(view, route_name=name)
        return config.make_wsgi_app()
