import sys

sys.stdout.write("x" * 65_534 + "\n")
