"""Tests of the container files, without building an image."""
