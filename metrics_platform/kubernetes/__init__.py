"""The platform on Kubernetes: turns a values file into manifests, pod templates and Spark properties."""
