import java.util.concurrent.atomic.AtomicInteger

object Threads extends App {
  val sum = new AtomicInteger
  val threads = (1 to 8).map(number => new Thread(new Runnable { def run(): Unit = sum.addAndGet(number) }))
  threads.foreach(_.start())
  threads.foreach(_.join())
  println(sum)
}
