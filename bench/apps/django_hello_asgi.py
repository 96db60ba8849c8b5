"""Hello in Django, ASGI: the view is a coroutine, as one writes it there."""

from __future__ import annotations

from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django_site import configure


async def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello, World!\n", content_type="text/plain")


urlpatterns = [path("", hello)]
configure(__name__)
app = get_asgi_application()
