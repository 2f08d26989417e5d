object Hello extends App {
  println("hello")
}
