"""Chaos: faults at random while clients publish and subscribe, and a check that nothing is lost.

The parts have the names that Jepsen gives them:

- `system`: the server under test with its workers, its Redis and the proxies before both.
- `workload`: the publishers and subscribers. They write down everything that they are told.
- `members`: users who come and go, and watch who is there; `presence` judges what they know.
- `nemesis`: brings about the faults of a `schedule` that the seed alone decides.
- `history`: what the workload wrote down, and `final_reads`: what the server stores in the end.
- `checker`: a pure function that holds a history to section 4 of docs/protocol.md.
- `run`: one run of all of them; `config` says how long and how hard; `report` writes its tables.
"""
