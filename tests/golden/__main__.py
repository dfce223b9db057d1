"""Write the golden files: `python -m tests.golden`."""

from tests.golden import renew

if __name__ == "__main__":
    renew()
