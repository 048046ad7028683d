"""Benchmarks: the numbers that the platform must reach, measured on this machine beside plain programs.

`make bench` runs all of them and writes build/bench.json; `make bench ARGS="--only batch_day"` runs one.
They are no tests: what they find depends on the machine.
"""
