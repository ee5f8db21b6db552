"""`python -m toolrlef_data.cli`, where the command `toolrlef-data` is not on the path."""

from toolrlef_data.cli.main import main

if __name__ == "__main__":
    main()
