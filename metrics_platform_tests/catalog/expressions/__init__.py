"""Tests that Spark takes expressions for what the catalogue takes them for."""
