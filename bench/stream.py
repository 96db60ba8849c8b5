"""x."""
NAME = "stream"
ROWS: list[str] = []
