(display "hello\n")
