"""The platform on Kubernetes: from a values file to manifests, pod templates and Spark properties."""
