"""The answers of the commands as tables for a terminal, and as JSON or CSV for programs."""
