"""Write what is generated in docs/notes anew: tables, figures and numbers from committed results, listings, outputs.

make notes                          all pages
python docs/make_notes why.md ...   some
python docs/make_notes --check      write nothing; exit 1 and say which pages and pictures are stale
"""

import sys

import pages


def main(arguments: list[str]) -> int:
    """Write, or check."""
    check = "--check" in arguments
    names = [a for a in arguments if a != "--check"]
    stale = pages.stale(names)
    if not check:
        pages.write(stale)
    for path in stale:
        print("stale" if check else "wrote", path.relative_to(pages.ROOT))
    return 1 if check and stale else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ValueError as error:
        sys.exit(str(error))
