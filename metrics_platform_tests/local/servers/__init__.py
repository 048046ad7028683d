"""Tests of single servers of the stack."""
