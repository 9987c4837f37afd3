"""One module for each system of the parity cases: `check(case)` rebuilds the official network from the case's `config`, loads its
weights through the code path that loads a released checkpoint, and compares every stored array with `case.compare`."""
