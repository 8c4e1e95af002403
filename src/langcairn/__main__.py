"""``python -m langcairn`` is the command ``langcairn``."""

from langcairn.cli.app import main

if __name__ == "__main__":
    main()
