"""Alarms: one table of rules, one evaluation, one list, and the channels by which people are told.

`rules.py` has the table, with the words of docs/alarms.md. A rule is a function from a snapshot of the
platform (`snapshot.py`) to findings; those stand in `lateness.py`, `correctness.py` and `servers.py`.
`evaluation.py` asks all rules, `watch.py` does it again and again and tells what changed, through
`channels.py` in the words of `notices.py`. What is known of alarms is in store/state/alarms.py.
"""
