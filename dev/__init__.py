"""The embedded default behind `make dev` and the tests; not shipped, imported by nothing else."""
