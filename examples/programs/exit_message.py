import sys

sys.exit("the reason goes to standard error")
