# Makes out/words: each word once, sorted.
sort -u words.txt >out/words
echo "$(wc -l <out/words) words"
