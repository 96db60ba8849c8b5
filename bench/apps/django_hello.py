"""Hello in Django, WSGI."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django_site import configure


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello, World!\n", content_type="text/plain")


urlpatterns = [path("", hello)]
configure(__name__)
app = get_wsgi_application()
