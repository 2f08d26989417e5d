(let* ((lock (sb-thread:make-mutex))
       (total 0)
       (threads (loop for number from 1 to 8
                      collect (let ((number number))
                                (sb-thread:make-thread
                                 (lambda () (sb-thread:with-mutex (lock) (incf total number))))))))
  (mapc #'sb-thread:join-thread threads)
  (format t "~a~%" total))
