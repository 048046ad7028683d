"""Both layers on a YARN cluster on loopback; run by `make test-yarn` alone."""
