"""The tests: a tree that mirrors metrics_platform, and what no single package owns.

Whole installations are tested in end_to_end and yarn, judged by chance in simulation, and measured in
benchmarks; support holds what tests share.
"""
