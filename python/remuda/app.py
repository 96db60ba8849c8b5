"""Load an application by its name, and tell WSGI from ASGI."""

# pathlib would cost the arbiter 0.9 MiB.
# ruff: noqa: PTH109, PTH208

from __future__ import annotations

import os
import sys

from . import forks
from .errors import AppLoadError
from .values import did_you_mean, takes_positional

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Iterator
    from inspect import Signature
    from types import ModuleType
    from typing import Any, Literal, TypeAlias

    from .config import Config

    Kind: TypeAlias = Literal["wsgi", "asgi", "tornado"]

# How many wrappers around an application are looked through.
_DEPTH = 32
# What PEP 3333 and the ASGI specification call the first argument.
_FIRST_NAMES: dict[str, Kind] = {"environ": "wsgi", "scope": "asgi"}

_EXAMPLE = "an application is named MODULE:ATTRIBUTE, for instance demo:app"


class Application:
    """A loaded application: what to call, its calling convention, and the name it was loaded by.

    `kind` is None when it does not show which convention it has.
    """

    __slots__ = ("callable", "kind", "spec")

    def __init__(self, callable: Any, kind: Kind | None, spec: str) -> None:
        self.callable = callable
        self.kind = kind
        self.spec = spec


def prepare(config: Config) -> None:
    """Make this process a place for the application: directory, `sys.path`, environment.

    It may be called again. Raises AppLoadError when the directory is gone.
    """
    try:
        os.chdir(config.chdir)
    except OSError as error:
        raise AppLoadError(f"cannot go to {config.chdir}: {error.strerror}") from None
    for path in reversed(config.import_paths):
        if path not in sys.path:
            sys.path.insert(0, path)
    os.environ.update(config.env)


def load(spec: str) -> Application:
    """Import the application that `spec` names.

    `module:attribute`, `module:attribute.attribute`, `module` (its `application` or `app`), or a
    call with literal arguments, `module:create_app("production", debug=False)`.

    Raises AppLoadError; where the user's code raised, their traceback is its `detail`.
    """
    module_name, colon, target = spec.partition(":")
    _check_module_name(spec, module_name, target)
    module = _import(module_name)
    if not colon:
        target = "application" if hasattr(module, "application") else "app"
        if not hasattr(module, target):
            raise AppLoadError(
                f"module {module_name!r} has neither application nor app",
                _attribute_hint(module_name, module, "application") or _EXAMPLE,
            )
    path, call = _parse(spec, target)
    found = _find(module_name, module, path)
    name = f"{module_name}:{'.'.join(path)}"
    if call is not None:
        found = _call(found, name, call)
        name = f"what {name}() returned"
    return Application(found, kind_of(found, name, f"{module_name}:{'.'.join(path)}"), spec)


def kind_of(app: object, name: str, path: str | None = None) -> Kind | None:
    """The calling convention of an application; None when it does not show.

    `name` is what a message calls it. Raises AppLoadError when it certainly is no application;
    `path` (module:attribute) then helps to say what to write instead.
    """
    import inspect

    path = path or name
    # A tornado.web.Application can only be here if its module is.
    tornado = sys.modules.get("tornado.web")
    if tornado is not None and isinstance(app, tornado.Application):
        return "tornado"
    if isinstance(app, type):
        return _kind_of_class(app, name, path)
    if not callable(app):
        what = "a module" if inspect.ismodule(app) else f"{_a(type(app).__name__)} object"
        raise AppLoadError(f"{name} is {what if app is not None else 'None'}, not an application")
    for depth, (layer, call) in enumerate(_layers(app)):
        is_async = _is_async(layer) or _is_async(call)
        kind = _kind_of_call(call, is_async, depth, name, path)
        if kind is not None:
            return kind
    return None


def doubt(application: Application, config: Config) -> str | None:
    """What to tell the user when nothing says how the application is to be called."""
    if application.kind is not None or config.is_class_chosen:
        return None
    return (
        f"{application.spec} does not show whether it is WSGI or ASGI, and is taken for WSGI: "
        "choose a worker class to say so (-k sync, -k asgi)"
    )


def _layers(app: Callable[..., object]) -> Iterator[tuple[Any, Any]]:
    """The application and whatever it says that it wraps, outermost first.

    Each with what runs when it is called.
    """
    import functools
    from types import MethodType

    layer: Any = app
    for _ in range(_DEPTH):
        call = _called(layer)
        yield layer, call
        inner = getattr(call, "__wrapped__", None)
        if isinstance(layer, functools.partial) and not layer.args:
            layer = layer.func
        elif inner is not None:
            layer = MethodType(inner, call.__self__) if isinstance(call, MethodType) else inner
        else:
            layer = getattr(layer, "__wrapped__", None)
        if not callable(layer):
            return


def _called(app: Any) -> Any:
    """What runs when `app` is called: the function itself, or the bound `__call__`."""
    import functools
    import inspect

    if inspect.isroutine(app) or isinstance(app, functools.partial):
        return app
    # What the interpreter calls: the attribute of the type, bound to the instance. Where it is a
    # slot, each instance has its own.
    call = inspect.getattr_static(type(app), "__call__", app)
    bind = getattr(type(call), "__get__", None)
    try:
        return call if bind is None else bind(call, app, type(app))
    except AttributeError:  # a slot that is empty
        return app


def _kind_of_call(call: Any, is_async: bool, depth: int, name: str, path: str) -> Kind | None:
    """The convention that arguments and `async` show; `depth` counts what is wrapped around."""
    import inspect

    try:
        signature = inspect.signature(call, follow_wrapped=False)
    except (ValueError, TypeError):  # a builtin that does not say
        return "asgi" if is_async else None
    takes_none, takes_two, takes_three = (_takes(signature, count) for count in (0, 2, 3))
    parameters = [*signature.parameters.values()]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    first, second = ([p.name for p in parameters] + ["", ""])[:2]
    if is_async and takes_three:
        return "asgi"
    # What is wrapped around a coroutine function may run it to its end: that is WSGI, too.
    if is_async and not (depth and takes_two):
        if takes_none:
            raise AppLoadError(
                f"{name} is an async function without arguments, not an application",
                "an ASGI application takes (scope, receive, send)",
            )
        if first == "scope" and _takes(signature, 1):
            raise _asgi2(name)
        raise AppLoadError(
            f"{name} is async but does not take (scope, receive, send)",
            "make it an ASGI application, or a plain function (environ, start_response)",
        )
    if takes_none and not takes_any and first not in ("environ", "scope"):
        raise AppLoadError(
            f"{name} can be called without arguments: it makes an application, and is none",
            f"call it: {path}()",
        )
    if (first, second) == ("event", "context"):
        raise AppLoadError(
            f"{name} is a handler for AWS Lambda, not an application",
            "name the application that it wraps",
        )
    if takes_two and takes_three:
        # WSGI with something optional, ASGI with defaults, or a wrapper of anything.
        return _FIRST_NAMES.get(first)
    if takes_two:
        return "wsgi"
    if takes_three:
        return "asgi"
    if first == "scope" and _takes(signature, 1):
        raise _asgi2(name)
    raise AppLoadError(
        f"{name} takes ({', '.join(signature.parameters)}), which makes it no application",
        "WSGI takes (environ, start_response), ASGI (scope, receive, send)",
    )


def _kind_of_class(cls: type, name: str, path: str) -> Kind:
    import inspect

    # PEP 3333's AppClass: calling it makes the iterable. ASGI's counterpart is awaited.
    if hasattr(cls, "__iter__") and takes_positional(cls, 2):
        return "wsgi"
    if hasattr(cls, "__await__") and takes_positional(cls, 3):
        return "asgi"
    if takes_positional(cls, 0):
        raise AppLoadError(f"{name} is a class, not an application", f"call it: {path}()")
    if takes_positional(cls, 1) and not takes_positional(cls, 2):
        call = inspect.getattr_static(cls, "__call__", None)
        if inspect.iscoroutinefunction(call) and takes_positional(call, 3):  # self, receive, send
            raise _asgi2(name)
    raise AppLoadError(
        f"{name} is a class, not an application", f"call it: {path}(...) with its arguments"
    )


def _asgi2(name: str) -> AppLoadError:
    return AppLoadError(
        f"{name} is an ASGI 2 application, and Remuda speaks ASGI 3",
        "wrap it: asgiref.compatibility.guarantee_single_callable(...)",
    )


def _is_async(function: object) -> bool:
    import inspect

    if inspect.iscoroutinefunction(function):
        return True
    # Before Python 3.12 asgiref, asyncio and Cython mark so what returns a coroutine and is not
    # `async def`. Without asyncio nothing can be marked.
    mark = getattr(sys.modules.get("asyncio.coroutines"), "_is_coroutine", None)
    return mark is not None and getattr(function, "_is_coroutine", None) is mark


def _takes(signature: Signature, count: int) -> bool:
    """Whether it can be called with `count` positional arguments."""
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _check_module_name(spec: str, module: str, target: str) -> None:
    dotted = module
    if dotted.endswith(".py"):
        dotted = dotted[:-3]
    if "/" in dotted:
        dotted = os.path.normpath(dotted).strip("/").replace("/", ".").lstrip(".")
    if dotted != module:
        meant = f"{dotted}:{target or 'app'}"
        raise AppLoadError(f"{spec!r} is a path, not a module", f"did you mean {meant}?")
    if not all(part.isidentifier() for part in module.split(".")):
        raise AppLoadError(f"{module!r} cannot be the name of a module", _EXAMPLE)


def _import(name: str) -> ModuleType:
    import importlib

    try:
        with forks.SameProcess():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only the module itself, or a package around it: else it is the user's own import.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise _no_module(name, error.name) from None
        raise _raised(f"module {name!r} cannot be imported", error) from error
    except SystemExit as error:
        raise AppLoadError(
            f"module {name!r} called sys.exit({error.code!r}) while it was imported",
            "put what only the script does under: if __name__ == '__main__':",
            detail=_traceback(error),
        ) from error
    except Exception as error:
        raise _raised(f"module {name!r} cannot be imported", error) from error


def _no_module(name: str, missing: str) -> AppLoadError:
    parent, _, last = missing.rpartition(".")
    where = f"in package {parent!r}" if parent else f"in {os.getcwd()} or on sys.path"
    if parent and not hasattr(sys.modules.get(parent), "__path__"):
        return AppLoadError(
            f"there is no module {missing!r}: {parent!r} is a module, not a package",
            f"did you mean {parent}:{last}?",
        )
    close = did_you_mean(last, _modules(parent))
    if close:
        meant = ".".join(filter(None, (parent, close))) + name.removeprefix(missing)
        return AppLoadError(f"there is no module {missing!r} {where}", f"did you mean {meant}?")
    hint = None if parent else "is it in another directory (--chdir)?"
    return AppLoadError(f"there is no module {missing!r} {where}", hint)


def _modules(parent: str) -> list[str]:
    """The modules beside one that is missing: in its package, or in the working directory."""
    paths = [*sys.modules[parent].__path__] if parent else ["."]
    names = []
    for path in paths:
        try:
            entries = os.listdir(path)
        except OSError:
            continue  # a zip file, or gone: it only costs a suggestion
        names += [entry.removesuffix(".py") for entry in entries]
    return [entry for entry in names if entry.isidentifier()]


def _parse(spec: str, target: str) -> tuple[list[str], ast.Call | None]:
    import ast

    try:
        expression = ast.parse(target, mode="eval").body
    except (SyntaxError, ValueError):
        raise AppLoadError(f"{target!r} in {spec!r} is no attribute or call", _EXAMPLE) from None
    call = expression if isinstance(expression, ast.Call) else None
    node = call.func if call else expression
    path: list[str] = []
    while isinstance(node, ast.Attribute):
        path.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise AppLoadError(f"{target!r} in {spec!r} is no attribute or call", _EXAMPLE)
    return [node.id, *reversed(path)], call


def _find(module_name: str, module: ModuleType, path: list[str]) -> object:
    found: object = module
    for i, attribute in enumerate(path):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            where = f"module {module_name!r}" if i == 0 else f"{module_name}:{'.'.join(path[:i])}"
            hint = _attribute_hint(module_name, found, attribute) if i == 0 else None
            raise AppLoadError(f"{where} has no attribute {attribute!r}", hint) from None
    return found


def _attribute_hint(module_name: str, module: object, attribute: str) -> str | None:
    names = [name for name in vars(module) if not name.startswith("_")]
    close = did_you_mean(attribute, names)
    if close is None:
        usual = ("app", "application", "create_app", "make_app", "get_app", "asgi", "wsgi")
        close = next((name for name in usual if name in names), None)
    if close is None:
        return None
    factory = close in ("create_app", "make_app", "get_app")
    return f"did you mean {module_name}:{close}{'()' * factory}?"


def _call(factory: object, name: str, call: ast.Call) -> object:
    import ast
    import inspect

    if not callable(factory):
        raise AppLoadError(f"{name} is {_a(type(factory).__name__)} object: it cannot be called")
    try:
        args = [ast.literal_eval(arg) for arg in call.args]
        kwargs = {str(kw.arg): ast.literal_eval(kw.value) for kw in call.keywords}
    except ValueError:
        raise AppLoadError(
            f"the arguments of {name}({ast.unparse(call).partition('(')[2]} are not literal",
            "only text, numbers, lists, True, False and None can be given here",
        ) from None
    try:
        with forks.SameProcess():
            made = factory(*args, **kwargs)
    except TypeError as error:
        # Raised by the call itself, and not inside: the arguments do not fit.
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise AppLoadError(f"{name} cannot be called so: {error}") from None
        raise _raised(f"{name}() failed", error) from error
    except SystemExit as error:
        raise AppLoadError(
            f"{name}() called sys.exit({error.code!r})", detail=_traceback(error)
        ) from error
    except Exception as error:
        raise _raised(f"{name}() failed", error) from error
    if inspect.iscoroutine(made):
        made.close()
        raise AppLoadError(
            f"{name} is an async function: calling it makes a coroutine, not an application",
            "a factory must be a plain function",
        )
    return made


def _raised(what: str, error: BaseException) -> AppLoadError:
    text = " ".join(str(error).split())
    line = f"{what}: {type(error).__name__}{': ' if text else ''}{text}"
    return AppLoadError(line, detail=_traceback(error))


def _traceback(error: BaseException) -> str:
    """The user's traceback: without our frames and importlib's, which come first."""
    import traceback

    frame = error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if (
            file != __file__
            and not file.startswith("<frozen importlib")
            and (f"{os.sep}importlib{os.sep}" not in file)
        ):
            break
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame))


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
