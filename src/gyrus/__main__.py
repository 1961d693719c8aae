"""``python -m gyrus``, the same as ``gyrus``."""

from gyrus.cli.app import main

if __name__ == "__main__":
    main()
