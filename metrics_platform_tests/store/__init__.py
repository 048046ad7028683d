"""Tests of the metric store on a real PostgreSQL, over the catalogue of a little shop (shop.py)."""
