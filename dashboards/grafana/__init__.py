"""Dashboards of Grafana over what Prometheus records, written in Python: `make grafana` writes their JSON."""
