lock = Mutex.new
total = 0
threads = (1..8).map { |number| Thread.new { lock.synchronize { total += number } } }
threads.each(&:join)
puts total
