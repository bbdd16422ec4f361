# A terminal that shows this line unescaped changes its colour, rings and overwrites text.
print("\x1b[31mred\x1b[0m\ttab\x07bell\rback")
