"""Where things are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "bench" / "apps"
PEERS = ROOT / ".bench-venv" / "peers" / "bin"
GUNICORN25 = ROOT / ".bench-venv" / "gunicorn25" / "bin"
