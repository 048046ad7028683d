"""The catalogue that people write in YAML: kinds of events, metrics, windows. Needs no Spark or Dagster."""
