"""The application that most tests serve, as the text of `app.py`."""

from __future__ import annotations

# Paths; the query is the argument:
#   /             hello
#   /pid          the worker's process id
#   /sleep?S      sleeps S seconds
#   /mark?NAME    appends a line to the file NAME in the working directory; then as /
#   /begin?S      appends to the file `begun`, then sleeps S seconds
#   /echo         the body
#   /digest       {"length", "sha256"} of the body
#   /environ      what of environ JSON can carry
#   /raise        raises
#   /late         raises after a piece of the body
#   /stream?N,S   N pieces with S seconds between them
#   /big?N        N bytes in one block
#   /file?NAME    a file by wsgi.file_wrapper
#   /exit?C       os._exit(C)
#   /sysexit?X    sys.exit(X)
#   /segfault     reads from address 0
#   /kill?N       sends itself the signal N
#   /gil?S        holds the GIL for S seconds
#   /status?S     the status S, as "404 Not Found"
#   /redirect     a response with a few fields
WSGI = r'''
import ctypes, hashlib, json, os, signal, sys, threading, time
from urllib.parse import unquote

def app(environ, start_response):
    path = environ["PATH_INFO"]
    query = unquote(environ["QUERY_STRING"])
    handler = globals().get("do_" + path.strip("/").replace("/", "_"), do_)
    return handler(environ, start_response, query)

def ok(start_response, body, kind="text/plain"):
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]

def append(name):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(fd, b"x\n")
    os.close(fd)

def do_(environ, start_response, query):
    return ok(start_response, b"hello")

def do_pid(environ, start_response, query):
    return ok(start_response, str(os.getpid()).encode())

def do_sleep(environ, start_response, query):
    time.sleep(float(query))
    return ok(start_response, b"slept")

def do_mark(environ, start_response, query):
    append(query)
    return ok(start_response, b"marked")

def do_begin(environ, start_response, query):
    append("begun")
    time.sleep(float(query))
    return ok(start_response, b"slept")

def do_echo(environ, start_response, query):
    return ok(start_response, environ["wsgi.input"].read())

def do_digest(environ, start_response, query):
    length, digest = 0, hashlib.sha256()
    while piece := environ["wsgi.input"].read(65536):
        length += len(piece)
        digest.update(piece)
    answer = {"length": length, "sha256": digest.hexdigest()}
    return ok(start_response, json.dumps(answer).encode(), "application/json")

def do_environ(environ, start_response, query):
    plain = {k: v for k, v in environ.items() if isinstance(v, (str, int, bool, tuple))}
    return ok(start_response, json.dumps(plain).encode(), "application/json")

def do_raise(environ, start_response, query):
    raise RuntimeError("on purpose")

def do_late(environ, start_response, query):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"a piece"
    raise RuntimeError("late, on purpose")

def do_stream(environ, start_response, query):
    number, pause = query.split(",")
    start_response("200 OK", [("Content-Type", "text/plain")])
    def pieces():
        for index in range(int(number)):
            if index:
                time.sleep(float(pause))
            yield b"piece %d\n" % index
    return pieces()

def do_big(environ, start_response, query):
    return ok(start_response, b"x" * int(query), "application/octet-stream")

def do_file(environ, start_response, query):
    file = open(query, "rb")
    size = os.fstat(file.fileno()).st_size
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(size))])
    return environ["wsgi.file_wrapper"](file, 8192)

def do_exit(environ, start_response, query):
    os._exit(int(query))

def do_sysexit(environ, start_response, query):
    sys.exit(int(query) if query.isdigit() else query)

def do_segfault(environ, start_response, query):
    ctypes.string_at(0)

def do_kill(environ, start_response, query):
    os.kill(os.getpid(), int(query))
    time.sleep(30)

def do_gil(environ, start_response, query):
    # Functions of a PyDLL are called with the GIL held.
    ctypes.PyDLL(None).usleep(ctypes.c_uint(int(float(query) * 1e6)))
    return ok(start_response, b"held")

def do_status(environ, start_response, query):
    start_response(query, [("Content-Type", "text/plain")])
    return [b"as you wish"]

def do_redirect(environ, start_response, query):
    start_response("302 Found", [("Location", "/elsewhere"), ("X-Odd", 'a "quoted" \\ word')])
    return []
'''
