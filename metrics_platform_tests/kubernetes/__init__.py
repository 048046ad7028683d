"""Tests of values files and manifests; no cluster is needed."""
