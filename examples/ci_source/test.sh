# Looks for a word in what build.sh has made.
if grep -qx "$1" out/words; then
    echo "$1: there"
else
    echo "$1: missing" >&2
    exit 3
fi
