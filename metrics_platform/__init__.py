"""Product metrics twice: approximate seconds after the minute, exact within the hour.

Beside the packages lies what they share: settings.py, errors.py, clusters.py, and platform.py, which loads an
installation. definitions.py is what Dagster loads. pyproject.toml says which package may import which.
"""
