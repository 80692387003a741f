"""Tries compositions and writes the pages; see :mod:`matrix`."""

import sys

if __name__ == "__main__":
    if sys.argv[1:] == ["timm"]:
        from matrix.of_timm import main
    elif not sys.argv[1:]:
        from matrix.native import main
    else:
        sys.exit("usage: python -m matrix [timm]")
    main()
