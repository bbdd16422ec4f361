#!/usr/bin/env bash
# Prints the results of the benchmarks as Markdown tables: scripts/bench-table.sh [TARGET_DIR]. Prints one median in
# nanoseconds: scripts/bench-table.sh --median ESTIMATES_FILE. The table of each criterion group has the medians, and their
# ratios to the baseline of the group: the bare mutex, or bollard by hand.
set -euo pipefail
# median FILE: the median of the latest run, in nanoseconds.
median() { sed -E 's/.*"median":\{"confidence_interval":\{[^}]*\},"point_estimate":([^,]*),.*/\1/' "$1"; }

if [ "${1:-}" = --median ]; then
    median "$2"
    exit
fi
target=${1:-${CARGO_TARGET_DIR:-$(dirname "${BASH_SOURCE[0]}")/../target}}

for group in "$target"/criterion/*/; do
    ids=("$group"*/new/estimates.json)
    [ -e "${ids[0]}" ] || continue
    base=
    for id in mutex_vec raw_bollard; do
        [ ! -e "$group$id/new/estimates.json" ] || base=$(median "$group$id/new/estimates.json")
    done
    group_name=$(basename "$group")
    printf '| %s | median |%s\n|---|---:|%s\n' "$group_name" "${base:+ ratio |}" "${base:+---:|}"
    for file in "${ids[@]}"; do
        name=${file%/new/estimates.json}
        printf '%s %s\n' "$(median "$file")" "${name##*/}"
    done | sort -g | awk -v base="$base" '{
        if ($1 < 1e3) time = sprintf("%.1f ns", $1)
        else if ($1 < 1e6) time = sprintf("%.2f µs", $1 / 1e3)
        else if ($1 < 1e9) time = sprintf("%.2f ms", $1 / 1e6)
        else time = sprintf("%.2f s", $1 / 1e9)
        printf "| %s | %s |", $2, time
        if (base) printf " %.2f |", $1 / base
        print ""
    }'
    echo
done
[ ! -e "$target/tmp/exec_pairs.md" ] || cat "$target/tmp/exec_pairs.md"
