"""The independent judge: random weeks, lived through by the real platform and judged by DuckDB."""
