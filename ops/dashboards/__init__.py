"""Makes the Grafana dashboards and the recording rules: ``python -m ops.dashboards``.

Needs the development packages. What it makes is committed: ops/grafana/dashboards, ops/prometheus/rules/recording.yml.
"""
