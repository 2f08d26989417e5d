def test_sum():
    assert 1 + 2 == 3


def test_product(tmp_path):
    assert 2 * 3 == 6
