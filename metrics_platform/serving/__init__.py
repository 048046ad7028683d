"""Formats numbers and labels for people and programs."""
