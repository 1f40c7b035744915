"""Counts in each worker, and the metrics of all workers for Prometheus.

Code that counts an occurrence raises an integer (`numbers`). A scrape turns the integers into
samples (`samples`). The supervisor adds the samples of its workers up, and `exposition` turns the
sum into text. `families` names every metric; docs/metrics.md has the same table.
"""
