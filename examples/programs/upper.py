import sys

text = sys.stdin.read()
sys.stdout.write(text.upper())
