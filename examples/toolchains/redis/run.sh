set -e
redis-server --bind 127.0.0.1 --port 7000 --save '' --daemonize yes >redis.log
for _ in 1 2 3 4 5 6 7 8 9 10; do
    redis-cli -p 7000 ping >ping.log 2>&1 && break
    sleep 0.2
done
redis-cli -p 7000 set word hello >set.log
redis-cli -p 7000 get word
redis-cli -p 7000 shutdown nosave
