"""Faults on real processes over real Kafka, and a verdict from outside: `python -m tests.chaos --help`."""
