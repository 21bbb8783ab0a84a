"""Alerts on failure rates: rules, whether they hold, and what became of it. Pure: no I/O, `now` is an argument.

`rules` reads them, `table` holds the counts by minute, `evaluate` looks at both, `states` says which alerts that begins
and ends. `replay` does all of it for a time that is over, `prometheus` writes the rules for Prometheus.
"""
