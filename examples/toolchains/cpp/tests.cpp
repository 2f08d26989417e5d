#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

TEST_CASE("sum") { CHECK(1 + 2 == 3); }
TEST_CASE("product") { CHECK(2 * 3 == 6); }
