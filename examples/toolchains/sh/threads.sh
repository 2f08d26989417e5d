for number in 1 2 3 4 5 6 7 8; do (echo $number) & done | awk '{ total += $1 } END { print total }'
wait
