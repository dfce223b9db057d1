"""What produces the figures in README and docs: each benchmark is one command."""
