# A terminal that shows this line as it is changes colour, rings and overwrites.
print("\x1b[31mred\x1b[0m\ttab\x07bell\rback")
