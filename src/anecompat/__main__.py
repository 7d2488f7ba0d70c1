"""python -m anecompat"""

from anecompat.cli import run

run()
