require "minitest/autorun"

class Numbers < Minitest::Test
  def test_sum
    assert_equal 3, 1 + 2
  end

  def test_product
    assert_equal 6, 2 * 3
  end
end
