"""Tests of the stack on this machine, most with trivial processes for servers."""
