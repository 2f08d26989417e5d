set -e
PATH=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1):$PATH
initdb -D data -U user -A trust --no-sync >initdb.log
pg_ctl -D data -w -l server.log -o "-h 127.0.0.1 -p 5433 -k ''" start >ctl.log
psql -h 127.0.0.1 -p 5433 -U user -d postgres -A -t -c "CREATE TABLE words AS SELECT 'hello' AS word" >psql.log
psql -h 127.0.0.1 -p 5433 -U user -d postgres -A -t -c "SELECT word FROM words"
pg_ctl -D data -m fast -w stop >>ctl.log
