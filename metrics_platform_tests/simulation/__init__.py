"""The simulation: the real platform processes random weeks, and the result is compared with DuckDB's.

A seed gives a random world (time zone, kinds of events, metrics), its traffic and a story of what happens to
the platform. The simulation sends the traffic to real brokers, lets the platform live through the story, and
compares what the platform holds at the end with what an independent calculation in DuckDB expects.
"""
