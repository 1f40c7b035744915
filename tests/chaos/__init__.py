"""Chaos: random faults while clients publish and subscribe, and a check that nothing is lost.

The parts have Jepsen's names:

- `system`: the server under test with its workers, its Redis and the proxies in front of both.
- `workload`: the subscribers; `publishers`: the publishers. Both record all messages of the server.
- `members`: users that come and go and watch each other's presence; `presence` checks their view.
- `nemesis`: injects the faults of a `schedule` that only the seed determines.
- `history`: the records of the workload; `final_reads`: the server's data at the end.
- `checker`: a pure function that checks a history against section 4 of docs/protocol.md.
- `run`: one run of all parts; `config` has the duration and intensity; `report` writes tables.
"""
