"""`python -m normlab` is `normlab`, where the scripts of an environment are not on the PATH."""

from normlab.cli import main

if __name__ == "__main__":
    main()
