"""An application that does what a server must not do, so that a soak that sees nothing is seen."""

from __future__ import annotations

from typing import Any

from flask import Response, g

from soak.wsgi_app import app


@app.after_request
def spoil(response: Response) -> Any:
    """Of each kind some: another's answer, a flipped byte, another status, an exception."""
    match sum(g.name.encode()) % 12:
        case 0:
            g.name = "somebody-else"
        case 1 if not response.is_streamed:
            body = response.get_data()
            response.set_data(body[:-1] + bytes([body[-1] ^ 1]))
        case 2:
            response.status_code = 503
        case 3:
            raise RuntimeError("on purpose")
    return response
