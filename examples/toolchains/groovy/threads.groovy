import java.util.concurrent.atomic.AtomicInteger

def sum = new AtomicInteger()
(1..8).collect { number -> Thread.start { sum.addAndGet(number) } }*.join()
println sum
