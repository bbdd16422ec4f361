import sys

for n in range(4096):
    sys.stdout.write(f"{n:015}\n")
sys.stdout.write("!")
