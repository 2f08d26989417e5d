expect_equal(1 + 2, 3)
expect_equal(2 * 3, 6)
