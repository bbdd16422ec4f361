def parse(text):
    return int(text)


print("before")
parse("twelve")
print("never reached")
