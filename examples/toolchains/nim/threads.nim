import std/locks

var
  lock: Lock
  total = 0
  threads: array[8, Thread[int]]

proc add(number: int) {.thread.} =
  withLock lock:
    {.gcsafe.}:
      total += number

initLock(lock)
for i in 0 .. 7:
  createThread(threads[i], add, i + 1)
joinThreads(threads)
echo total
