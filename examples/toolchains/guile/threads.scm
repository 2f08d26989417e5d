(use-modules (ice-9 threads))
(display (apply + (map join-thread (map (lambda (number) (call-with-new-thread (lambda () number))) (iota 8 1)))))
(newline)
