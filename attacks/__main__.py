"""Mounts every attack and writes ``docs/attacks.md``."""

from attacks.table import main

if __name__ == "__main__":
    main()
