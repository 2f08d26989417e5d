-module(tests).
-export([sum_test/0, product_test/0]).
sum_test() -> 3 = 1 + 2.
product_test() -> 6 = 2 * 3.
