"""The same application in each ASGI framework. `NAME_app()` makes one.

/hello?name=N    Hello N
/form            POST: fields a and b
/upload          POST: a file in a multipart form: its length and SHA-256
/body            POST: the same of the body, read in pieces
/stream          three pieces with time between them
/events          three server-sent events; the file `started` says how many were begun
/away            a redirect to /hello
/cookies         sets a cookie, and says what the last one was
/background      answers, and then writes the file `background`
/raise           raises
"""

import asyncio
import hashlib
import json
from pathlib import Path


def note(name):
    with Path(name).open("a") as file:
        file.write("x\n")


def sums(data):
    return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}


async def sums_of(pieces):
    digest, length = hashlib.sha256(), 0
    async for piece in pieces:
        digest.update(piece)
        length += len(piece)
    return {"length": length, "sha256": digest.hexdigest()}


async def pieces():
    for number in range(3):
        yield b"piece %d\n" % number
        await asyncio.sleep(0.02)


async def events():
    for number in range(3):
        yield b"data: %d\n\n" % number
        await asyncio.sleep(0.02)


async def write_later():
    await asyncio.sleep(0.2)
    note("background")


def starlette_app():
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import (
        JSONResponse,
        PlainTextResponse,
        RedirectResponse,
        StreamingResponse,
    )
    from starlette.routing import Route

    async def hello(request):
        return PlainTextResponse(f"Hello {request.query_params.get('name')}")

    async def form(request):
        async with request.form() as fields:
            return PlainTextResponse(f"{fields['a']} {fields['b']}")

    async def upload(request):
        async with request.form() as fields:
            return JSONResponse(sums(await fields["file"].read()))

    async def body(request):
        return JSONResponse(await sums_of(request.stream()))

    async def stream(request):
        return StreamingResponse(pieces())

    async def server_events(request):
        return StreamingResponse(events(), media_type="text/event-stream")

    async def away(request):
        return RedirectResponse("/hello")

    async def cookies(request):
        response = PlainTextResponse(request.cookies.get("seen", "none"))
        response.set_cookie("seen", "yes")
        return response

    async def background(request):
        return PlainTextResponse("later", background=BackgroundTask(write_later))

    async def raises(request):
        raise LookupError("nothing there")

    return Starlette(
        routes=[
            Route("/hello", hello),
            Route("/form", form, methods=["POST"]),
            Route("/upload", upload, methods=["POST"]),
            Route("/body", body, methods=["POST"]),
            Route("/stream", stream),
            Route("/events", server_events),
            Route("/away", away),
            Route("/cookies", cookies),
            Route("/background", background),
            Route("/raise", raises),
        ]
    )


def fastapi_app():
    from fastapi import BackgroundTasks, Cookie, FastAPI, Form, Request, Response, UploadFile
    from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse

    app = FastAPI()

    @app.get("/hello")
    def hello(name: str = ""):  # in a thread
        return PlainTextResponse(f"Hello {name}")

    @app.post("/form")
    async def form(a: str = Form(), b: str = Form()):
        return PlainTextResponse(f"{a} {b}")

    @app.post("/upload")
    async def upload(file: UploadFile):
        return sums(await file.read())

    @app.post("/body")
    async def body(request: Request):
        return await sums_of(request.stream())

    @app.get("/stream")
    async def stream():
        return StreamingResponse(pieces())

    @app.get("/events")
    async def server_events():
        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/away")
    async def away():
        return RedirectResponse("/hello")

    @app.get("/cookies")
    async def cookies(response: Response, seen: str = Cookie("none")):
        answer = PlainTextResponse(seen)
        answer.set_cookie("seen", "yes")
        return answer

    @app.get("/background")
    async def background(tasks: BackgroundTasks):
        tasks.add_task(write_later)
        return "later"

    @app.get("/raise")
    async def raises():
        raise LookupError("nothing there")

    return app


def litestar_app():
    from litestar import Litestar, Request, get, post
    from litestar.background_tasks import BackgroundTask
    from litestar.response import Redirect, Response, Stream

    @get("/hello")
    async def hello(name: str = "") -> Response:
        return Response(f"Hello {name}", media_type="text/plain")

    @post("/form")
    async def form(request: Request) -> Response:
        fields = await request.form()
        return Response(f"{fields['a']} {fields['b']}", media_type="text/plain")

    @post("/upload")
    async def upload(request: Request) -> dict:
        return sums(await (await request.form())["file"].read())

    @post("/body")
    async def body(request: Request) -> dict:
        return await sums_of(request.stream())

    @get("/stream")
    async def stream() -> Stream:
        return Stream(pieces())

    @get("/events")
    async def server_events() -> Stream:
        return Stream(events(), media_type="text/event-stream")

    @get("/away")
    async def away() -> Redirect:
        return Redirect("/hello")

    @get("/cookies")
    async def cookies(request: Request) -> Response:
        response = Response(request.cookies.get("seen", "none"), media_type="text/plain")
        response.set_cookie("seen", "yes")
        return response

    @get("/background")
    async def background() -> Response:
        return Response("later", background=BackgroundTask(write_later))

    @get("/raise")
    async def raises() -> None:
        raise LookupError("nothing there")

    return Litestar(
        [hello, form, upload, body, stream, server_events, away, cookies, background, raises],
        request_max_body_size=None,
    )


def quart_app():
    from quart import Quart, redirect, request

    app = Quart("demo")
    app.config["MAX_CONTENT_LENGTH"] = None

    @app.get("/hello")
    async def hello():
        return f"Hello {request.args.get('name')}"

    @app.post("/form")
    async def form():
        fields = await request.form
        return f"{fields['a']} {fields['b']}"

    @app.post("/upload")
    async def upload():
        return sums((await request.files)["file"].read())

    @app.post("/body")
    async def body():
        return await sums_of(request.body)

    @app.get("/stream")
    async def stream():
        return pieces()

    @app.get("/events")
    async def server_events():
        return events(), {"Content-Type": "text/event-stream"}

    @app.get("/away")
    async def away():
        return redirect("/hello")

    @app.get("/cookies")
    async def cookies():
        response = await app.make_response(request.cookies.get("seen", "none"))
        response.set_cookie("seen", "yes")
        return response

    @app.get("/background")
    async def background():
        app.add_background_task(write_later)
        return "later"

    @app.get("/raise")
    async def raises():
        raise LookupError("nothing there")

    return app


def blacksheep_app():
    from blacksheep import (
        Application,
        Content,
        Cookie,
        Request,
        Response,
        StreamedContent,
        json,
        redirect,
        text,
    )

    app = Application()
    get, post = app.router.get, app.router.post

    @get("/hello")
    async def hello(name: str = "") -> Response:
        return text(f"Hello {name}")

    @post("/form")
    async def form(request: Request) -> Response:
        fields = await request.form()
        return text(f"{fields['a']} {fields['b']}")

    @post("/upload")
    async def upload(request: Request) -> Response:
        (file,) = await request.files("file")
        data = file.data
        return json(sums(data if isinstance(data, bytes) else data.read()))

    @post("/body")
    async def body(request: Request) -> Response:
        return json(await sums_of(request.stream()))

    @get("/stream")
    async def stream() -> Response:
        return Response(200, content=StreamedContent(b"text/plain", pieces))

    @get("/events")
    async def server_events() -> Response:
        return Response(200, content=StreamedContent(b"text/event-stream", events))

    @get("/away")
    async def away() -> Response:
        return redirect("/hello")

    @get("/cookies")
    async def cookies(request: Request) -> Response:
        response = text(request.cookies.get("seen", "none"))
        response.set_cookie(Cookie("seen", "yes"))
        return response

    @get("/background")
    async def background() -> Response:
        asyncio.get_running_loop().create_task(write_later())
        return Response(200, content=Content(b"text/plain", b"later"))

    @get("/raise")
    async def raises() -> Response:
        raise LookupError("nothing there")

    return app


def django_app():
    import django
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import (
        HttpResponse,
        HttpResponseRedirect,
        JsonResponse,
        StreamingHttpResponse,
    )
    from django.urls import path

    background_tasks = set()

    async def hello(request):
        return HttpResponse(f"Hello {request.GET.get('name')}")

    def form(request):  # in a thread
        return HttpResponse(f"{request.POST['a']} {request.POST['b']}")

    async def upload(request):
        return JsonResponse(sums(request.FILES["file"].read()))

    async def body(request):
        return JsonResponse(sums(request.read()))

    async def stream(request):
        return StreamingHttpResponse(pieces())

    async def server_events(request):
        return StreamingHttpResponse(events(), content_type="text/event-stream")

    async def away(request):
        return HttpResponseRedirect("/hello")

    async def cookies(request):
        response = HttpResponse(request.COOKIES.get("seen", "none"))
        response.set_cookie("seen", "yes")
        return response

    async def background(request):
        background_tasks.add(asyncio.create_task(write_later()))
        return HttpResponse("later")

    async def raises(request):
        raise LookupError("nothing there")

    urls = type("urls", (), {})
    urls.urlpatterns = [
        path("hello", hello),
        path("form", form),
        path("upload", upload),
        path("body", body),
        path("stream", stream),
        path("events", server_events),
        path("away", away),
        path("cookies", cookies),
        path("background", background),
        path("raise", raises),
    ]
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=urls,
        SECRET_KEY="x",
        DATA_UPLOAD_MAX_MEMORY_SIZE=None,
        LOGGING_CONFIG=None,
    )
    django.setup(set_prefix=False)
    return get_asgi_application()


def falcon_app():
    import falcon
    import falcon.asgi

    class Resource:
        def __init__(self, get=None, post=None):
            if get:
                self.on_get = get
            if post:
                self.on_post = post

    async def hello(request, response):
        response.text = f"Hello {request.get_param('name')}"

    async def form(request, response):
        fields = await request.get_media()
        response.text = f"{fields['a']} {fields['b']}"

    async def upload(request, response):
        async for part in await request.get_media():
            response.media = await sums_of(part.stream)

    async def body(request, response):
        response.media = await sums_of(request.stream)

    async def stream(request, response):
        response.stream = pieces()

    async def server_events(request, response):
        async def emit():
            async for event in events():
                yield falcon.asgi.SSEvent(data=event.removeprefix(b"data: ").strip())

        response.sse = emit()

    async def away(request, response):
        raise falcon.HTTPFound("/hello")

    async def cookies(request, response):
        response.text = request.cookies.get("seen", "none")
        response.set_cookie("seen", "yes", secure=False)

    async def background(request, response):
        response.text = "later"
        response.schedule(write_later)

    async def raises(request, response):
        raise LookupError("nothing there")

    app = falcon.asgi.App()
    app.add_route("/hello", Resource(hello))
    app.add_route("/form", Resource(post=form))
    app.add_route("/upload", Resource(post=upload))
    app.add_route("/body", Resource(post=body))
    app.add_route("/stream", Resource(stream))
    app.add_route("/events", Resource(server_events))
    app.add_route("/away", Resource(away))
    app.add_route("/cookies", Resource(cookies))
    app.add_route("/background", Resource(background))
    app.add_route("/raise", Resource(raises))
    return app


def tornado_app():
    import tornado.web

    class Handler(tornado.web.RequestHandler):
        pass

    class Hello(Handler):
        async def get(self):
            self.write(f"Hello {self.get_argument('name', None)}")

    class Form(Handler):
        async def post(self):
            self.write(f"{self.get_argument('a')} {self.get_argument('b')}")

    class Upload(Handler):
        async def post(self):
            self.write(sums(self.request.files["file"][0].body))

    @tornado.web.stream_request_body
    class Body(Handler):
        def initialize(self):
            self.digest, self.length = hashlib.sha256(), 0

        async def data_received(self, chunk):
            self.digest.update(chunk)
            self.length += len(chunk)

        async def post(self):
            self.write(json.dumps({"length": self.length, "sha256": self.digest.hexdigest()}))

    class Pieces(Handler):
        def initialize(self, source, kind):
            self.source, self.kind = source, kind

        async def get(self):
            self.set_header("Content-Type", self.kind)
            async for piece in self.source():
                self.write(piece)
                await self.flush()

    class Away(Handler):
        async def get(self):
            self.redirect("/hello")

    class Cookies(Handler):
        async def get(self):
            self.set_cookie("seen", "yes")
            self.write(self.get_cookie("seen", "none"))

    class Background(Handler):
        async def get(self):
            self.finish("later")
            await write_later()

    class Raises(Handler):
        async def get(self):
            raise LookupError("nothing there")

    return tornado.web.Application(
        [
            ("/hello", Hello),
            ("/form", Form),
            ("/upload", Upload),
            ("/body", Body),
            ("/stream", Pieces, {"source": pieces, "kind": "text/plain"}),
            ("/events", Pieces, {"source": events, "kind": "text/event-stream"}),
            ("/away", Away),
            ("/cookies", Cookies),
            ("/background", Background),
            ("/raise", Raises),
        ]
    )
