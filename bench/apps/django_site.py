"""Django's settings for hello: the middleware of `startproject` that needs no database."""

from __future__ import annotations

import django
from django.conf import settings


def configure(urlconf: str) -> None:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=urlconf,
        SECRET_KEY="not a secret",
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
    )
    django.setup()
