"""Tests of exact windows, repairs and previews, on real servers."""
