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
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any, Literal, TypeAlias

    from .config import Config

    Kind: TypeAlias = Literal["wsgi", "asgi", "tornado"]

_EXAMPLE = "an application is named MODULE:ATTRIBUTE, for instance demo:app"


class Application:
    """A loaded application: what to call, its calling convention, and the name it was loaded by."""

    __slots__ = ("callable", "kind", "spec")

    def __init__(self, callable: Any, kind: Kind, spec: str) -> None:
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


def kind_of(app: object, name: str, path: str | None = None) -> Kind:
    """The calling convention of an application. `name` is what a message calls it.

    Raises AppLoadError when it is no application; `path` (module:attribute) then helps to say what
    to write instead.
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
    is_async = _is_async(app)
    takes_two, takes_three = takes_positional(app, 2), takes_positional(app, 3)
    if is_async:
        if takes_three:
            return "asgi"
        if takes_positional(app, 0):
            raise AppLoadError(
                f"{name} is an async function without arguments, not an application",
                "an ASGI application takes (scope, receive, send)",
            )
        raise AppLoadError(
            f"{name} is async but does not take (scope, receive, send)",
            "make it an ASGI application, or a plain function (environ, start_response)",
        )
    if takes_positional(app, 0) and not _takes_any_number(app):
        raise AppLoadError(
            f"{name} can be called without arguments: it makes an application, and is none",
            f"call it: {path}()",
        )
    if takes_two:  # what takes both is WSGI with something optional, or a wrapper of anything
        return "wsgi"
    if takes_three:
        return "asgi"
    raise _wrong_arguments(app, name)


def _kind_of_class(cls: type, name: str, path: str) -> Kind:
    # PEP 3333's AppClass: calling it makes the iterable. ASGI's counterpart is awaited.
    if hasattr(cls, "__iter__") and takes_positional(cls, 2):
        return "wsgi"
    if hasattr(cls, "__await__") and takes_positional(cls, 3):
        return "asgi"
    if takes_positional(cls, 0):
        raise AppLoadError(f"{name} is a class, not an application", f"call it: {path}()")
    if _is_async_method(cls) and not takes_positional(cls, 2) and takes_positional(cls, 1):
        raise _wrong_arguments(cls, name)
    raise AppLoadError(
        f"{name} is a class, not an application", f"call it: {path}(...) with its arguments"
    )


def _wrong_arguments(app: Callable[..., object], name: str) -> AppLoadError:
    import inspect

    parameters = [*inspect.signature(app).parameters]
    if parameters[:1] == ["scope"] and takes_positional(app, 1):
        return AppLoadError(
            f"{name} is an ASGI 2 application, and Remuda speaks ASGI 3",
            "wrap it: asgiref.compatibility.guarantee_single_callable(...)",
        )
    return AppLoadError(
        f"{name} takes ({', '.join(parameters)}), which makes it no application",
        "WSGI takes (environ, start_response), ASGI (scope, receive, send)",
    )


def _is_async(app: Any) -> bool:
    import functools
    import inspect

    while isinstance(app, functools.partial):
        app = app.func
    # A decorator that keeps __wrapped__ around an async function returns its coroutine, as a rule.
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(inspect.unwrap(app)):
        return True
    # asgiref and asyncio mark what returns a coroutine though it is not `async def`.
    if getattr(app, "_is_coroutine", None) or getattr(app, "_is_coroutine_marker", None):
        return True
    return not inspect.isroutine(app) and _is_async_method(type(app))


def _is_async_method(cls: type) -> bool:
    import inspect

    call = getattr(cls, "__call__", None)  # noqa: B004  (the function, not whether it is there)
    return call is not None and inspect.iscoroutinefunction(inspect.unwrap(call))


def _takes_any_number(app: Callable[..., object]) -> bool:
    import inspect

    try:
        parameters = inspect.signature(app).parameters.values()
    except (ValueError, TypeError):
        return True  # a builtin that does not say
    return any(p.kind is p.VAR_POSITIONAL for p in parameters)


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
