"""The benchmarks behind the figures in README and docs. Each module is one command."""
