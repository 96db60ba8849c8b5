"""Comparisons of Remuda with other servers: `python -m bench --help`."""
