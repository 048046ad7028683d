"""How `metrics-platform up` runs: in the foreground, in the background, and without its standard output.

The command itself and its options are in stack.py beside it, with `down`, `status` and `env`.
"""
