"""Crash tests: processes that store are killed at random moments, and nothing may be lost.

`python -m tests.torture --kills 200` runs them on files, SQLite, PostgreSQL and Valkey, and with
`--store URL` on any store that another process can open. The parts:

- `states`: states that grow, change in place, and carry a seal by which a wrong one shows;
- `workers`: the processes that write, remove and read;
- `ledger`: what they announced and acknowledged, and what must therefore be found;
- `servers`: the stores, and servers of the tests' own;
- `referee`: starts the workers, kills them and the servers, and compares.
"""
