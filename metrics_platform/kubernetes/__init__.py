"""The platform on Kubernetes: from a values file to manifests, pod templates and Spark properties.

Nothing here talks to a cluster: what is printed is for kubectl.
"""
