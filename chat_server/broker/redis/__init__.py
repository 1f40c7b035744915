"""The broker over Redis: one server, the sentinels' master, or a cluster."""
