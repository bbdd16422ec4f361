print("this line is fine, and never runs")
if True
    print("a colon is missing above")
