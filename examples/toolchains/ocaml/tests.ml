open OUnit2

let sum _ = assert_equal 3 (1 + 2)
let product _ = assert_equal 6 (2 * 3)
let () = run_test_tt_main ("numbers" >::: [ "sum" >:: sum; "product" >:: product ])
