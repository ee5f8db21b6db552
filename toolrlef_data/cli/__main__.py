"""`python -m toolrlef_data.cli`, for environments without `toolrlef-data` on the path."""

from toolrlef_data.cli.main import main

if __name__ == "__main__":
    main()
