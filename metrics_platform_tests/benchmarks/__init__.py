"""Benchmarks: measure the platform on this machine, some beside plain Spark programs, against bars.

`make bench` runs all of them and writes build/bench.json; `make bench ARGS="--only batch_day"` runs one.
They are no tests, because the results depend on the machine.
"""
