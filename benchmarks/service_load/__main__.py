"""`python -m benchmarks.service_load`: see `benchmarks.service_load.cli`."""

from benchmarks.service_load.cli import main

raise SystemExit(main())
