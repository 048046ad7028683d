"""Tests of the made-up web shop, on a real broker where it sends."""
