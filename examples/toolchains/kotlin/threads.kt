import java.util.concurrent.atomic.AtomicInteger
import kotlin.concurrent.thread

fun main() {
    val sum = AtomicInteger()
    (1..8).map { number -> thread { sum.addAndGet(number) } }.forEach { it.join() }
    println(sum)
}
