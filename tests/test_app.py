"""Loading applications, and telling their kinds apart."""

from __future__ import annotations

import itertools
import os
import sys
import textwrap

import pytest

from remuda import app
from remuda.config import load as load_config
from remuda.errors import AppLoadError

_numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Make a module with this source in the working directory; the name is its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = {*sys.modules}

    def make(source: str, name: str | None = None) -> str:
        name = name or f"app_of_test_{os.getpid()}_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        return name

    yield make
    for name in {*sys.modules} - before:
        del sys.modules[name]


def refusal(spec: str) -> AppLoadError:
    with pytest.raises(AppLoadError) as caught:
        app.load(spec)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    return caught.value


# As wrapt's: it looks like what it wraps, and is called with anything.
_PROXY = """
class Proxy:
    def __init__(self, wrapped): self.__wrapped__ = wrapped
    __class__ = property(lambda self: self.__wrapped__.__class__)
    def __getattr__(self, name): return getattr(self.__wrapped__, name)
    def __call__(self, *args, **kwargs): return self.__wrapped__(*args, **kwargs)
class App:
    async def __call__(self, scope, receive, send): ...
async def serve(scope, receive, send): ...
def wsgi(environ, start_response): ...
app = Proxy({})
"""

# Each is a body that defines `app`.
KINDS = {
    "wsgi function": ("wsgi", "def app(environ, start_response): ..."),
    "wsgi with other names": ("wsgi", "def app(e, s): ..."),
    "wsgi with a default": ("wsgi", "def app(environ, s, extra=None): ..."),
    "wsgi lambda": ("wsgi", "app = lambda e, s: []"),
    "wsgi instance": (
        "wsgi",
        """
        class App:
            def __call__(self, environ, start_response): ...
        app = App()
        """,
    ),
    "wsgi class as in PEP 3333": (
        "wsgi",
        """
        class app:
            def __init__(self, environ, start_response): ...
            def __iter__(self): ...
        """,
    ),
    "wsgi bound method": (
        "wsgi",
        """
        class App:
            def serve(self, environ, start_response): ...
        app = App().serve
        """,
    ),
    "wsgi static method": (
        "wsgi",
        """
        class App:
            @staticmethod
            def serve(environ, start_response): ...
        app = App.serve
        """,
    ),
    "wsgi partial": (
        "wsgi",
        """
        import functools
        def serve(config, environ, start_response): ...
        app = functools.partial(serve, {})
        """,
    ),
    "flask": ("wsgi", "import flask; app = flask.Flask(__name__)"),
    "asgi function": ("asgi", "async def app(scope, receive, send): ..."),
    "asgi with other names": ("asgi", "async def app(a, b, c): ..."),
    "asgi instance": (
        "asgi",
        """
        class App:
            async def __call__(self, scope, receive, send): ...
        app = App()
        """,
    ),
    "asgi instance that hands on without async": (
        "asgi",
        """
        class App:
            def __call__(self, scope, receive, send): return inner(scope, receive, send)
        app = App()
        """,
    ),
    "asgi bound method": (
        "asgi",
        """
        class App:
            async def serve(self, scope, receive, send): ...
        app = App().serve
        """,
    ),
    "asgi partial": (
        "asgi",
        """
        import functools
        async def serve(config, scope, receive, send): ...
        app = functools.partial(serve, {})
        """,
    ),
    "asgi behind functools.wraps": (
        "asgi",
        """
        import functools
        async def serve(scope, receive, send): ...
        @functools.wraps(serve)
        def app(*args, **kwargs): return serve(*args, **kwargs)
        """,
    ),
    "asgi behind an async decorator": (
        "asgi",
        """
        def wrap(f):
            async def g(*args, **kwargs): return await f(*args, **kwargs)
            return g
        @wrap
        async def app(scope, receive, send): ...
        """,
    ),
    "asgi instance whose call is a slot": (
        "asgi",
        """
        class App:
            __slots__ = ("__call__",)
            def __init__(self):
                self.__call__ = self.run
            async def run(self, scope, receive, send): ...
        app = App()
        """,
    ),
    "asgi instance whose call is a decorated method": (
        "asgi",
        """
        import functools
        def wrap(f):
            @functools.wraps(f)
            def g(*args, **kwargs): return f(*args, **kwargs)
            return g
        class App:
            @wrap
            async def __call__(self, scope, receive, send): ...
        app = App()
        """,
    ),
    "asgi instance in a transparent proxy": ("asgi", _PROXY.format("App()")),
    "asgi function in a transparent proxy": ("asgi", _PROXY.format("serve")),
    "asgi instance that is marked": (
        "asgi",
        """
        from asgiref.sync import markcoroutinefunction
        class App:
            def __init__(self): markcoroutinefunction(self)
            def __call__(self, *args): ...
        app = App()
        """,
    ),
    "asgi with defaults": ("asgi", "def app(scope, receive=None, send=None): ..."),
    "wsgi in a transparent proxy": ("wsgi", _PROXY.format("wsgi")),
    "wsgi that runs a coroutine function to its end": (
        "wsgi",
        """
        import asyncio, functools
        def wrap(f):
            @functools.wraps(f)
            def g(*args): return asyncio.run(f(*args))
            return g
        @wrap
        async def app(environ, start_response): ...
        """,
    ),
    "wsgi adapter that is marked as what it wraps": (
        "wsgi",
        """
        import functools
        async def serve(scope, receive, send): ...
        class App:
            def __init__(self): functools.update_wrapper(self, serve)
            def __call__(self, environ, start_response): ...
        app = App()
        """,
    ),
    "asgi endpoint class": (
        "asgi",
        """
        class app:
            def __init__(self, scope, receive, send): ...
            def __await__(self): ...
        """,
    ),
    "tornado": ("tornado", "import tornado.web; app = tornado.web.Application([])"),
    "tornado's subclass": (
        "tornado",
        """
        import tornado.web
        class App(tornado.web.Application): ...
        app = App()
        """,
    ),
}


@pytest.mark.parametrize("case", KINDS)
def test_an_applications_kind_is_told_from_its_shape(module, case):
    kind, source = KINDS[case]
    name = module(source)
    loaded = app.load(f"{name}:app")
    assert loaded.kind == kind
    assert loaded.callable is sys.modules[name].app
    assert loaded.spec == f"{name}:app"


UNTOLD = {
    "a decorator that hides the arguments": """
        def wrap(f):
            def g(*args, **kwargs): return f(*args, **kwargs)
            return g
        @wrap
        def app(environ, start_response): ...
        """,
    "an instance that takes anything": """
        class App:
            def __call__(self, *args, **kwargs): ...
        app = App()
        """,
    "asgiref's async_to_sync": """
        from asgiref.sync import async_to_sync
        @async_to_sync
        async def app(environ, start_response): ...
        """,
    "wsgiref's validator": """
        from wsgiref.simple_server import demo_app
        from wsgiref.validate import validator
        app = validator(demo_app)
        """,
    "names that say nothing": "def app(a, b, c=None): ...",
    "a wrapper of itself": """
        class App:
            def __call__(self, *args): ...
        app = App()
        app.__wrapped__ = app
        """,
}


@pytest.mark.parametrize("case", UNTOLD)
def test_what_does_not_show_its_kind_is_run_by_the_class_that_is_chosen(module, case):
    name = module(UNTOLD[case])
    loaded = app.load(f"{name}:app")
    assert loaded.kind is None
    for chosen in ("sync", "gevent", "asgi", "tornado"):
        config = load_config(["-k", chosen, f"{name}:app"], {}, "/")
        assert config.worker_class_for(loaded.kind) == chosen
        assert app.doubt(loaded, config) is None
    config = load_config([f"{name}:app"], {}, "/")
    assert config.worker_class_for(loaded.kind) == "sync"
    assert f"{name}:app does not show whether it is WSGI or ASGI" in app.doubt(loaded, config)


NONE = {
    "a string": ("app = 'x'", "is a str object, not an application"),
    "an int": ("app = 3", "is an int object, not an application"),
    "nothing": ("app = None", "is None, not an application"),
    "a module": ("import json as app", "is a module, not an application"),
    "a factory": ("def app(): ...", "call it: {}:app()"),
    "a factory with defaults": ("def app(config=None, debug=False): ...", "call it: {}:app()"),
    "an async factory": ("async def app(): ...", "is an async function without arguments"),
    "a class without arguments": ("class app: ...", "is a class, not an application: call it: {}"),
    "a class that must be made": (
        """
        class app:
            def __init__(self, path): ...
            def __call__(self, environ, start_response): ...
        """,
        "is a class, not an application",
    ),
    "one argument": ("def app(request): ...", "takes (request), which makes it no application"),
    "four arguments": ("def app(a, b, c, d): ...", "takes (a, b, c, d)"),
    "async wsgi": ("async def app(environ, start_response): ...", "does not take (scope, receive"),
    "asgi 2 function": ("def app(scope): ...", "is an ASGI 2 application"),
    "asgi 2 class": (
        """
        class app:
            def __init__(self, scope): ...
            async def __call__(self, receive, send): ...
        """,
        "is an ASGI 2 application",
    ),
    "asgi 2 class with other names": (
        """
        class app:
            def __init__(self, connection): ...
            async def __call__(self, r, s): ...
        """,
        "is an ASGI 2 application",
    ),
    "an AWS Lambda handler": (
        """
        class Handler:
            def __call__(self, event, context): ...
        app = Handler()
        """,
        "is a handler for AWS Lambda, not an application",
    ),
}


@pytest.mark.parametrize("case", NONE)
def test_what_is_no_application_is_refused_with_the_fix(module, case):
    source, message = NONE[case]
    name = module(source)
    assert message.format(name) in str(refusal(f"{name}:app"))


WSGI = "def {}(environ, start_response): ...\n"


def test_a_module_alone_means_its_application_or_else_its_app(module):
    both = module(WSGI.format("application") + WSGI.format("app"))
    assert app.load(both).callable.__name__ == "application"
    one = module(WSGI.format("app"))
    assert app.load(one).callable.__name__ == "app"
    neither = module(WSGI.format("create_app"))
    assert "has neither application nor app" in str(refusal(neither))
    assert f"did you mean {neither}:create_app()?" in str(refusal(neither))


def test_attributes_can_be_dotted(module):
    name = module("class site:\n    @staticmethod\n    def app(environ, start_response): ...")
    assert app.load(f"{name}:site.app").kind == "wsgi"
    assert f"{name}:site has no attribute 'ap'" in str(refusal(f"{name}:site.ap"))


@pytest.mark.parametrize(
    "call", ["make()", "make('x')", "make('x', debug=True)", "make(kind={'a': [1, None]})"]
)
def test_a_factory_is_called_with_literal_arguments(module, call):
    name = module(
        """
        def make(name="", debug=False, kind=None):
            def app(environ, start_response): ...
            app.given = (name, debug, kind)
            return app
        """
    )
    expected = eval(call, {"make": lambda name="", debug=False, kind=None: (name, debug, kind)})
    assert app.load(f"{name}:{call}").callable.given == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("make(1, 2)", "cannot be called so: make() takes 1 positional argument but 2 were given"),
        ("make()", "make() missing 1 required positional argument: 'x'"),
        ("make(os)", "are not literal"),
        ("make(*[1])", "are not literal"),
        ("make(", "is no attribute or call"),
        ("make()()", "is no attribute or call"),
        ("3", "is no attribute or call"),
        ("", "is no attribute or call"),
        ("nothing()", "has no attribute 'nothing'"),
        ("value()", "is an int object: it cannot be called"),
        ("make(0)", "what {}:make() returned is None, not an application"),
        ("fails()", "{}:fails() failed: ValueError: no database"),
        ("wrong_inside()", "{}:wrong_inside() failed: TypeError: "),
        ("leaves()", "{}:leaves() called sys.exit(5)"),
        ("later()", "is an async function: calling it makes a coroutine"),
    ],
)
def test_a_factory_that_does_not_work_is_one_line(module, call, message):
    name = module(
        """
        import os, sys
        value = 3
        def make(x): ...
        def fails(): raise ValueError("no database")
        def wrong_inside(): return make()
        def leaves(): sys.exit(5)
        async def later(): ...
        """
    )
    assert message.format(name) in str(refusal(f"{name}:{call}"))


def test_a_factorys_traceback_is_the_users_alone(module):
    name = module("def inner():\n    raise ValueError\ndef make():\n    inner()\n")
    detail = refusal(f"{name}:make()").detail
    assert detail is not None
    assert detail.startswith("Traceback (most recent call last):\n")
    files = [line.split('"')[1] for line in detail.splitlines() if line.startswith("  File ")]
    assert {os.path.basename(file) for file in files} == {f"{name}.py"}  # noqa: PTH119
    assert len(files) == 2


def test_an_exception_while_importing_is_the_users_traceback(module):
    deeper = module("def f():\n    return 1 / 0\n")
    name = module(f"import {deeper}\n{deeper}.f()\n")
    error = refusal(f"{name}:app")
    expected = f"module {name!r} cannot be imported: ZeroDivisionError: division by zero"
    assert str(error) == expected
    assert error.detail is not None
    assert "importlib" not in error.detail
    assert "remuda" not in error.detail
    assert error.detail.count("  File ") == 2


def test_a_syntax_error_shows_its_place(module):
    name = module("def app(:\n")
    error = refusal(f"{name}:app")
    assert "SyntaxError" in str(error)
    assert f'{name}.py", line 1' in (error.detail or "")


def test_the_modules_own_missing_import_is_not_taken_for_the_module(module):
    name = module("import no_such_module_anywhere\n")
    error = refusal(f"{name}:app")
    assert "No module named 'no_such_module_anywhere'" in str(error)
    assert error.detail is not None


def test_a_module_that_exits_while_imported_is_told_what_to_do(module):
    name = module("import sys\nsys.exit('usage: ...')\n")
    assert "called sys.exit('usage: ...') while it was imported" in str(refusal(name))
    assert "if __name__ == '__main__':" in str(refusal(name))


def test_an_interrupt_while_importing_is_not_an_error_of_the_application(module):
    name = module("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        app.load(name)


def test_a_missing_module_is_looked_for_among_its_neighbours(module, tmp_path):
    module("", "warehouse")
    package = tmp_path / "shop_of_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "wsgi.py").write_text("")
    assert "did you mean warehouse?" in str(refusal("warehose:app"))
    assert f"in {tmp_path} or on sys.path" in str(refusal("zzz_of_test:app"))
    assert "--chdir" in str(refusal("zzz_of_test:app"))
    assert "did you mean shop_of_test.wsgi?" in str(refusal("shop_of_test.wsg:app"))
    assert "there is no module 'shop_of_test.zzz' in package 'shop_of_test'" in str(
        refusal("shop_of_test.zzz:app")
    )
    assert "did you mean shop_of_test.wsgi?" in str(refusal("shop_of_tst.wsgi:app"))


def test_a_dot_where_a_colon_belongs_is_noticed(module):
    name = module(WSGI.format("app"))
    assert f"did you mean {name}:app?" in str(refusal(f"{name}.app"))


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("demo.py", "demo:app"),
        ("demo.py:main", "demo:main"),
        ("./demo.py", "demo:app"),
        ("site/demo.py:app", "site.demo:app"),
        ("site/demo:app", "site.demo:app"),
    ],
)
def test_a_path_is_answered_with_the_module(spec, meant):
    assert f"did you mean {meant}?" in str(refusal(spec))


@pytest.mark.parametrize("spec", ["", ":app", "my-app:app", "a..b:app", "http://x", "a b"])
def test_what_cannot_be_a_module_is_refused(spec):
    assert str(refusal(spec))


def test_an_attribute_that_is_missing_has_a_suggestion(module):
    name = module(WSGI.format("application"))
    assert f"did you mean {name}:application?" in str(refusal(f"{name}:aplication"))
    factory = module("def create_app(): ...")
    assert f"did you mean {factory}:create_app()?" in str(refusal(f"{factory}:zzz"))


def test_preparing_goes_to_the_directory_and_sets_path_and_environment(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("REMUDA_TEST_VALUE", "old")
    (tmp_path / "site").mkdir()
    argv = ["--chdir", "site", "--pythonpath", "lib", "-e", "REMUDA_TEST_VALUE=new"]
    config = load_config(argv, {}, str(tmp_path))
    app.prepare(config)
    app.prepare(config)
    site = tmp_path / "site"
    assert os.getcwd() == str(site)  # noqa: PTH109
    assert sys.path[:2] == [str(site / "lib"), str(site)]
    assert sys.path.count(str(site)) == 1
    assert os.environ["REMUDA_TEST_VALUE"] == "new"


def test_preparing_in_a_directory_that_is_gone_is_one_line(tmp_path):
    (tmp_path / "site").mkdir()
    config = load_config(["--chdir", "site"], {}, str(tmp_path))
    (tmp_path / "site").rmdir()
    with pytest.raises(AppLoadError, match="No such file or directory"):
        app.prepare(config)
