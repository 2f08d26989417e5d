(require :sb-rt)
(sb-rt:deftest sum (+ 1 2) 3)
(sb-rt:deftest product (* 2 3) 6)
(sb-rt:do-tests)
