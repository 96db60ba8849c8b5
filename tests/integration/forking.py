"""An application that forks in every way, as the text of `app.py`: WSGI, ASGI and Tornado."""

from __future__ import annotations

# Paths; the query is the argument:
#   /                hello
#   /fork?HOW        forks; the child does HOW (see `child`); the answer is the child's exit code
#   /raw?HOW         the same by the C library's fork, of which Python knows nothing
#   /process?METHOD  a multiprocessing.Process by METHOD; the answer is what it has sent
#   /pool?METHOD     the same with a multiprocessing.Pool, which stays for the next request
#   /executor?METHOD the same with a ProcessPoolExecutor
#   /run             subprocess.run, with a function called before exec
#   /pty             pty.fork
#   /daemon?NAME     forks twice; the grandchild writes its pid to NAME and waits
#   /terminate       ends a multiprocessing child by terminate(); the answer is its exit code
#   /linger?NAME     forks a child that waits for NAME, and then some; the answer is its pid
#   /wait?NAME       waits until the file NAME is there, and says in NAME.log that it saw it
COMMON = r"""
import concurrent.futures, ctypes, json, multiprocessing, os, pty, signal, subprocess, sys, time
from urllib.parse import unquote

PID = os.getpid()
kept = []
libc = ctypes.PyDLL(None)

def append(name, text):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(fd, text.encode() + b"\n")
    os.close(fd)

def status_of(pid):
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

def child(how):
    "What the child does: gives what the application gives, or does not come back."
    append("children", how)
    if how == "raise":
        raise LookupError("raised by the child")
    if how == "exit":
        sys.exit(7)
    if how == "text":
        sys.exit("said by the child")
    if how == "_exit":
        os._exit(9)
    if how == "sleep":
        time.sleep(0.2)
        os._exit(11)
    if how == "signals":
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
            assert signal.getsignal(number) is signal.SIG_DFL, number
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.set_wakeup_fd(-1) == -1
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    assert how == "return", how

def fork(how):
    if pid := os.fork():
        return status_of(pid)
    return child(how)

def raw(how):
    if pid := libc.fork():
        return status_of(pid)
    return child(how)

def send(pipe, number):
    time.sleep(0.01)
    pipe.send((number * number, os.getppid()))
    pipe.close()

def square(number):
    time.sleep(0.01)
    return number * number

def process(method):
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe(False)
    started = context.Process(target=send, args=(theirs, 7))
    started.start()
    theirs.close()
    number, parent = ours.recv()
    started.join()
    assert method == "forkserver" or parent == PID
    return f"{number} {started.exitcode}"

def pool(method):
    if not kept:
        kept.append(multiprocessing.get_context(method).Pool(2))
    return str(sum(kept[0].map(square, range(5))))

def executor(method):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        return str(sum(pool.map(square, range(5))))

def run(_):
    done = subprocess.run(
        [sys.executable, "-c", "print(input())"], input=b"from a program", stdout=subprocess.PIPE,
        preexec_fn=lambda: os.setpgid(0, 0),
    )
    return done.stdout.decode().strip() + subprocess.run("exit 3", shell=True).returncode * "!"

def in_terminal(_):
    pid, master = pty.fork()
    if pid == 0:
        os.write(1, b"from a terminal")
        os._exit(0)
    said = os.read(master, 100)
    status_of(pid)
    os.close(master)
    return said.decode()

def daemon(name):
    if pid := os.fork():
        return status_of(pid)
    os.setsid()
    if os.fork():
        os._exit(0)
    append(name, str(os.getpid()))
    while not os.path.exists(name + ".end"):
        time.sleep(0.01)
    # As if nothing had happened: into the application that it came from.

def wait_for_ever(name):
    append(name, str(os.getpid()))
    time.sleep(60)

def terminate(method):
    context = multiprocessing.get_context(method)
    started = context.Process(target=wait_for_ever, args=("terminated",))
    started.start()
    while not os.path.exists("terminated"):
        time.sleep(0.01)
    started.terminate()
    started.join(10)
    return str(started.exitcode)

def start(name, is_daemon):
    "A multiprocessing child that waits."
    started = multiprocessing.Process(target=wait_for_ever, args=(name,), daemon=is_daemon)
    started.start()
    kept.append(started)

def linger(name):
    if pid := os.fork():
        return str(pid)
    while not os.path.exists(name):
        time.sleep(0.01)
    time.sleep(0.1)
    append("lingered", "x")
    os._exit(0)

def wait(name):
    append(name + ".begun", "x")
    while not os.path.exists(name):
        time.sleep(0.01)
    append(name + ".log", str(os.getpid()))
    return str(os.getpid())

def hello(_):
    return "hello"

WORK = {
    "/fork": fork, "/raw": raw, "/process": process, "/pool": pool, "/executor": executor,
    "/run": run, "/pty": in_terminal, "/daemon": daemon, "/terminate": terminate,
    "/linger": linger, "/wait": wait,
}
"""

WSGI = (
    COMMON
    + r"""
def blocks(work, query):
    yield (work(query) or "from the child").encode()

def app(environ, start_response):
    path, query = environ["PATH_INFO"], unquote(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path.startswith("/late"):
        return blocks(WORK[path.removeprefix("/late")], query)
    return [(WORK.get(path, hello)(query) or "from the child").encode()]
"""
)

# Paths under /thread do their work in another thread than the event loop's.
ASGI = (
    COMMON
    + r"""
import asyncio

async def wait_in_loop(name):
    append(name + ".begun", "x")
    while not os.path.exists(name):
        await asyncio.sleep(0.01)
    append(name + ".log", str(os.getpid()))
    return str(os.getpid())

async def await_in_child(_):
    if pid := os.fork():
        return await asyncio.to_thread(status_of, pid)
    await asyncio.get_event_loop_policy().get_event_loop().create_future()

async def own_loop(_):
    if pid := os.fork():
        return await asyncio.to_thread(status_of, pid)
    async def main():
        await asyncio.sleep(0.01)
        return 12
    os._exit(asyncio.run(main()))

async def task(how):
    return await asyncio.create_task(fork_in_loop(how))

async def fork_in_loop(how):
    if pid := os.fork():
        return await asyncio.to_thread(status_of, pid)
    return child(how)

AWAITED = {
    "/fork": fork_in_loop, "/task": task, "/await": await_in_child, "/own": own_loop,
    "/wait": wait_in_loop,
}

async def answer(path, query):
    if path in AWAITED:
        return await AWAITED[path](query)
    if path.startswith("/thread"):
        return await asyncio.to_thread(WORK[path.removeprefix("/thread")], query)
    return WORK.get(path, hello)(query)

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = await answer(scope["path"], unquote(scope["query_string"].decode()))
    if body is None and scope["path"] != "/fork":
        return
    body = (body or "from the child").encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
)

TORNADO = (
    ASGI.replace("async def app(", "async def asgi(")
    + r"""
import tornado.web

class Handler(tornado.web.RequestHandler):
    async def get(self):
        body = await answer(self.request.path, unquote(self.request.query))
        self.write(body or "from the child")

app = tornado.web.Application([(".*", Handler)])
"""
)
