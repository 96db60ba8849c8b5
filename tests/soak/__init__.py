"""A long mixed load on real servers and applications, while they are recycled, reloaded and killed.

`make soak`, or from the checkout: `PYTHONPATH=tests .venv/bin/python -m soak --seconds 600`.
"""
