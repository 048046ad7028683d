"""What people define, in YAML: events, metrics, windows. Plain Python, without Spark or Dagster."""
