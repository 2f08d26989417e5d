ExUnit.start()

defmodule Numbers do
  use ExUnit.Case

  test "sum" do
    assert 1 + 2 == 3
  end

  test "product" do
    assert 2 * 3 == 6
  end
end
