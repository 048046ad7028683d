"""Tests of the tables that the commands print."""
