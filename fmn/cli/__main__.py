"""``python -m fmn.cli``, for where the script ``fmn`` is not on the path."""

from fmn.cli import main

main(prog_name="fmn")
