import unittest


class Numbers(unittest.TestCase):
    def test_sum(self):
        assert 1 + 2 == 3

    def test_product(self):
        assert 2 * 3 == 6
