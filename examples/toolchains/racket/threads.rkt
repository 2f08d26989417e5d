#lang racket/base
(require racket/place)

(define (start number)
  (define other (place channel (place-channel-put channel (place-channel-get channel))))
  (place-channel-put other number)
  other)

(module+ main
  (displayln (for/sum ([other (map start '(1 2 3 4 5 6 7 8))]) (place-channel-get other))))
